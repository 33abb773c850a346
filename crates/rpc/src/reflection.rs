//! Descriptors: what server reflection shows, and which methods are streams.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::LazyLock;

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

/// The package of what installations serve, and the suite calls.
const NOT_SERVED: &str = "parlance.hook.v1";

/// Adds server reflection, in both of its versions.
pub(crate) fn with_reflection(routes: Routes) -> Result<Routes, Error> {
    let v1 = builder().with_service_name("grpc.reflection.v1.ServerReflection").build_v1()?;
    let v1alpha =
        builder().with_service_name("grpc.reflection.v1alpha.ServerReflection").build_v1alpha()?;
    let v1 = v1.max_decoding_message_size(MAX_OPEN_REQUEST);
    let v1alpha = v1alpha.max_decoding_message_size(MAX_OPEN_REQUEST);
    Ok(routes.add_service(v1).add_service(v1alpha))
}

fn builder() -> Builder<'static> {
    let builder =
        SETS.into_iter().fold(Builder::configure(), Builder::register_encoded_file_descriptor_set);
    services().into_iter().fold(builder, Builder::with_service_name)
}

/// The services of the sets that are served here.
fn services() -> Vec<String> {
    let mut names = Vec::new();
    for set in SETS {
        let set = FileDescriptorSet::decode(set).expect("descriptors made by a compiler");
        let served = set.file.iter().filter(|file| file.package() != NOT_SERVED);
        names.extend(served.flat_map(|file| {
            file.service.iter().map(|service| format!("{}.{}", file.package(), service.name()))
        }));
    }
    names
}

pub(crate) fn is_reflection(path: &str) -> bool {
    path.starts_with("/grpc.reflection.")
}

/// Who may ask what services there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reflection {
    /// Nobody.
    Off,
    /// Whoever has a good token.
    #[default]
    Token,
    /// Everybody.
    Open,
}

/// A text that names no such choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be off, token or open")]
pub struct InvalidReflection;

impl FromStr for Reflection {
    type Err = InvalidReflection;

    fn from_str(text: &str) -> Result<Self, InvalidReflection> {
        match text {
            "off" => Ok(Self::Off),
            "token" => Ok(Self::Token),
            "open" => Ok(Self::Open),
            _ => Err(InvalidReflection),
        }
    }
}

/// Which sides of a method are streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Streams {
    request: bool,
    answer: bool,
}

/// The known method at a path.
pub(crate) fn method(path: &str) -> Option<(&'static str, Streams)> {
    static METHODS: LazyLock<HashMap<String, Streams>> = LazyLock::new(methods);
    METHODS.get_key_value(path).map(|(path, streams)| (path.as_str(), *streams))
}

/// Whether the answer of the method at a path is a stream.
pub(crate) fn streams(path: &str) -> bool {
    method(path).is_some_and(|(_, streams)| streams.answer)
}

/// Whether the method at a path takes a stream of messages.
pub(crate) fn takes_stream(path: &str) -> bool {
    method(path).is_some_and(|(_, streams)| streams.request)
}

fn methods() -> HashMap<String, Streams> {
    let mut paths = HashMap::new();
    let reflection = [
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    for set in SETS.into_iter().chain(reflection) {
        let set = FileDescriptorSet::decode(set).expect("descriptors made by a compiler");
        for file in &set.file {
            for service in &file.service {
                paths.extend(service.method.iter().map(|method| {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let (request, answer) = (method.client_streaming(), method.server_streaming());
                    (path, Streams { request, answer })
                }));
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_stream_is_known_by_its_path() {
        for path in [
            "/parlance.message.v1.StreamService/Subscribe",
            "/grpc.health.v1.Health/Watch",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(streams(path), "{path}");
        }
        let sends = "/parlance.message.v1.MessageService/SendMessages";
        assert!(streams(sends) && takes_stream(sends));
        assert!(!takes_stream("/parlance.message.v1.StreamService/Subscribe"));
        let upload = "/parlance.message.v1.AttachmentService/UploadAttachment";
        assert!(takes_stream(upload) && !streams(upload));
        assert!(!streams("/parlance.message.v1.MessageService/SendMessage"));
        assert!(method("/parlance.message.v1.MessageService/Send").is_none());
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
