//! Generates the gRPC code from `proto/`, with a protobuf compiler in Rust: nothing to install.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};

use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// The message whose bytes are made once and shared by all its receivers.
const FRAME: &str = ".parlance.message.v1.SubscribeResponse";

/// The package of messages, and its contents.
const PACKAGE: &str = ".parlance.message.v1";
const CONTENT: &str = ".parlance.message.v1.MessageContent";

/// Where a content is passed on as it is stored.
const STORED: [&str; 3] = ["Message", "MessageSent", "MessageEdited"];

/// The reasons of refusals, whose comments say which code each comes with.
const REASONS: &str = "parlance/errors/v1/reason.proto";

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_source_info(true).include_imports(true);
    for file in protos(root)? {
        compiler.open_file(file)?;
    }
    // Written by protox itself: the prost types would drop what they do not know.
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let descriptors = compiler.file_descriptor_set();
    let errors = descriptors.file.iter().find(|file| file.name() == REASONS);
    std::fs::write(out.join("reasons.rs"), reasons(errors.ok_or("no reasons")?)?)?;

    let generate = || {
        // BTreeMap: equal messages have equal bytes, so a payload hash means something.
        tonic_prost_build::configure()
            .emit_rerun_if_changed(false)
            .btree_map(".")
            .codec_path("crate::frame::FrameCodec")
    };
    generate().compile_fds(descriptors.clone())?;

    let stored = out.join("stored");
    std::fs::create_dir_all(&stored)?;
    let mut generate = generate();
    generate = generate
        .build_client(false)
        .out_dir(&stored)
        .bytes(PACKAGE)
        .extern_path(FRAME, "crate::frame::Frame")
        .extern_path(".parlance.hook.v1", "crate::hook::v1")
        .extern_path(".parlance.membership.v1", "crate::membership::v1")
        .extern_path(".parlance.presence.v1", "crate::presence::v1")
        .extern_path(".parlance.room.v1", "crate::room::v1");
    let (descriptors, others) = with_content_as_bytes(descriptors);
    for other in others {
        generate = generate
            .extern_path(format!("{PACKAGE}.{other}"), format!("crate::message::v1::{other}"));
    }
    generate.compile_fds(descriptors)?;
    Ok(())
}

/// The contracts with the contents of messages as bytes, which are on the wire what an
/// encoded content is; and the types of the package that hold no such content, which are those
/// of all others.
fn with_content_as_bytes(mut files: FileDescriptorSet) -> (FileDescriptorSet, Vec<String>) {
    let package = |file: &&mut FileDescriptorProto| file.package() == &PACKAGE[1..];
    let mut types: Vec<&mut DescriptorProto> =
        files.file.iter_mut().filter(package).flat_map(|file| &mut file.message_type).collect();
    let mut holders: BTreeSet<String> = BTreeSet::new();
    for holder in types.iter_mut().filter(|holder| STORED.contains(&holder.name())) {
        holders.insert(format!("{PACKAGE}.{}", holder.name()));
        for field in holder.field.iter_mut().filter(|field| field.type_name() == CONTENT) {
            field.set_type(Type::Bytes);
            (field.type_name, field.proto3_optional) = (None, Some(true));
        }
    }
    // Whoever holds a holder holds a content.
    let mut before = 0;
    while before < holders.len() {
        before = holders.len();
        for holder in &types {
            if holder.field.iter().any(|field| holders.contains(field.type_name())) {
                holders.insert(format!("{PACKAGE}.{}", holder.name()));
            }
        }
    }
    let enums = files.file.iter().filter(|file| file.package() == &PACKAGE[1..]);
    let enums = enums.flat_map(|file| &file.enum_type).map(|kind| kind.name().to_owned());
    let types = files.file.iter().filter(|file| file.package() == &PACKAGE[1..]);
    let types = types.flat_map(|file| &file.message_type).map(|message| message.name().to_owned());
    let others = types.filter(|name| !holders.contains(&format!("{PACKAGE}.{name}"))).chain(enums);
    let others = others.collect();
    (files, others)
}

/// What the comments of the reasons say to this code: `Code: NOT_FOUND.` of each.
fn reasons(file: &FileDescriptorProto) -> Result<String, Box<dyn Error>> {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let mut all = Vec::new();
    let mut codes = Vec::new();
    for location in locations {
        // The values of the first enum of a file.
        let [5, 0, 2, at] = location.path[..] else { continue };
        let name = file.enum_type[0].value[usize::try_from(at)?].name();
        let variant = camel_case(name.strip_prefix("REASON_").ok_or("a name without prefix")?);
        if at == 0 {
            continue;
        }
        let code = location.leading_comments().split_once("Code: ");
        let code = code.and_then(|(_, after)| after.split_once('.'));
        let (code, _) = code.ok_or_else(|| format!("{name}: no `Code: ...` in its comment"))?;
        all.push(format!("Self::{variant}"));
        codes.push(format!("Self::{variant} => tonic::Code::{}", camel_case(code)));
    }
    let all = all.join(", ");
    let codes = codes.join(", ");
    Ok(format!(
        "impl Reason {{
            /// Every reason.
            pub const ALL: &[Self] = &[{all}];

            /// The code it comes with.
            pub const fn code(self) -> tonic::Code {{
                match self {{ Self::Unspecified => tonic::Code::Unknown, {codes} }}
            }}
        }}"
    ))
}

fn camel_case(name: &str) -> String {
    let word = |word: &str| format!("{}{}", &word[..1], word[1..].to_lowercase());
    name.split('_').map(word).collect()
}

/// Every `.proto` file below `root`, relative to it, in a fixed order.
fn protos(root: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                found.push(path.strip_prefix(root)?.to_path_buf());
            }
        }
    }
    found.sort();
    Ok(found)
}
