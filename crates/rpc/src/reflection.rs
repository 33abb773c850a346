//! Descriptors: what server reflection shows, and which methods are streams.

use std::collections::HashSet;

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::service::Routes;
use tonic_reflection::server::{Builder, Error};

use crate::layers::MAX_OPEN_REQUEST;

/// Every set of descriptors that a client may ask for. The error details are
/// among them, so that tools can print what a status carries.
const SETS: [&[u8]; 3] = [
    parlance_proto::DESCRIPTORS,
    tonic_types::pb::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
];

/// Adds server reflection, in both of its versions.
pub fn with_reflection(routes: Routes) -> Result<Routes, Error> {
    let v1 = builder().build_v1()?.max_decoding_message_size(MAX_OPEN_REQUEST);
    let v1alpha = builder().build_v1alpha()?.max_decoding_message_size(MAX_OPEN_REQUEST);
    Ok(routes.add_service(v1).add_service(v1alpha))
}

fn builder() -> Builder<'static> {
    SETS.into_iter().fold(Builder::configure(), Builder::register_encoded_file_descriptor_set)
}

pub(crate) fn is_reflection(path: &str) -> bool {
    path.starts_with("/grpc.reflection.")
}

/// The paths of the methods whose answer is a stream.
pub(crate) fn streaming_methods() -> HashSet<String> {
    let mut paths = HashSet::new();
    let reflection = [
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    for set in SETS.into_iter().chain(reflection) {
        let set = FileDescriptorSet::decode(set).expect("descriptors made by a compiler");
        for file in &set.file {
            for service in &file.service {
                let streams = service.method.iter().filter(|method| method.server_streaming());
                paths.extend(streams.map(|method| {
                    format!("/{}.{}/{}", file.package(), service.name(), method.name())
                }));
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_is_known_by_its_path() {
        let paths = streaming_methods();
        for path in [
            "/parlance.message.v1.StreamService/Subscribe",
            "/grpc.health.v1.Health/Watch",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(paths.contains(path), "{path}");
        }
        assert!(!paths.contains("/parlance.message.v1.MessageService/SendMessage"));
    }

    #[test]
    fn what_is_reflected_names_only_files_that_are_reflected_too() {
        let mut files = HashSet::new();
        let mut imported = HashSet::new();
        for set in SETS {
            for file in FileDescriptorSet::decode(set).expect("descriptors").file {
                files.insert(file.name().to_owned());
                imported.extend(file.dependency);
            }
        }
        assert_eq!(imported.difference(&files).collect::<Vec<_>>(), Vec::<&String>::new());
    }
}
