//! Generates the committed Protocol Buffers code, without protoc.
//!
//! `proto/sheaf/**/v1/*.proto` becomes one Rust file per protobuf package and
//! one descriptor set for server reflection in `crates/proto/src/generated`;
//! Arrow's Flight definition becomes a descriptor set only, because the
//! `arrow-flight` crate has the code but not the descriptors.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use prost::Message;

use crate::{
    error::{Error, Result},
    workspace::{Workspace, files_below},
};

const GENERATED: &str = "crates/proto/src/generated";
const FLIGHT_PROTO: &str = "arrow/flight/protocol/Flight.proto";
const FLIGHT_DESCRIPTOR: &str = "crates/flight/src/flight_descriptor.bin";

/// Writes the generated files, or with `check` says which of them are stale.
///
/// # Errors
///
/// Fails when a definition does not compile, a file cannot be written, or, with
/// `check`, a committed file differs from what would be written.
pub(crate) fn run(workspace: &Workspace, check: bool) -> Result<()> {
    let wanted = generate(workspace)?;
    let stale = stale(workspace, &wanted)?;
    if check {
        for path in &stale {
            println!("{}:1: generated file is stale: run `cargo xtask codegen`", path.display());
        }
        return match stale.len() {
            0 => Ok(()),
            count => Err(Error::Findings { task: "codegen", count }),
        };
    }
    for path in &stale {
        let full = workspace.path(path);
        match wanted.get(path) {
            Some(content) => write(&full, content)?,
            None => fs::remove_file(&full).map_err(Error::io("remove", &full))?,
        }
        println!(
            "{} {}",
            if wanted.contains_key(path) { "wrote" } else { "removed" },
            path.display()
        );
    }
    Ok(())
}

/// Everything that is generated, by path relative to the root.
fn generate(workspace: &Workspace) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let root = workspace.path("proto");
    let mut sources: Vec<PathBuf> = files_below(&root.join("sheaf"))?;
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
    if sources.is_empty() {
        return Err(Error::Message(format!(
            "no .proto file below {}: nothing to generate",
            root.join("sheaf").display()
        )));
    }

    let mut files = BTreeMap::new();
    let with_comments = compile(&root, &sources, true)?;
    let scratch = workspace.target.join("codegen");
    if scratch.exists() {
        fs::remove_dir_all(&scratch).map_err(Error::io("remove", &scratch))?;
    }
    fs::create_dir_all(&scratch).map_err(Error::io("create", &scratch))?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .build_transport(true)
        .bytes(".")
        // What is the same has the same bytes, in records and frames of Raft.
        .btree_map(".sheaf.raft")
        .emit_rerun_if_changed(false)
        .out_dir(&scratch)
        .compile_fds(with_comments)
        .map_err(Error::io("generate code into", &scratch))?;
    for path in files_below(&scratch)? {
        let Some(name) = path.file_name() else { continue };
        let content = fs::read(&path).map_err(Error::io("read", &path))?;
        files.insert(Path::new(GENERATED).join(name), content);
    }

    let bare = compile(&root, &sources, false)?;
    files.insert(Path::new(GENERATED).join("descriptor.bin"), bare.encode_to_vec());
    let flight = compile(&root, &[root.join(FLIGHT_PROTO)], false)?;
    files.insert(PathBuf::from(FLIGHT_DESCRIPTOR), flight.encode_to_vec());
    Ok(files)
}

/// Comments belong in Rust documentation, not in what servers send about themselves.
fn compile(
    root: &Path,
    sources: &[PathBuf],
    comments: bool,
) -> Result<protox::prost_reflect::prost_types::FileDescriptorSet> {
    let mut compiler =
        protox::Compiler::new([root]).map_err(|error| Error::Proto(Box::new(error)))?;
    compiler
        .include_imports(true)
        .include_source_info(comments)
        .open_files(sources)
        .map_err(|error| Error::Proto(Box::new(error)))?;
    Ok(compiler.file_descriptor_set())
}

/// Paths whose content on disk is not what it should be, those to remove included.
fn stale(workspace: &Workspace, wanted: &BTreeMap<PathBuf, Vec<u8>>) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for (path, content) in wanted {
        if fs::read(workspace.path(path)).ok().as_ref() != Some(content) {
            paths.push(path.clone());
        }
    }
    let folder = workspace.path(GENERATED);
    if folder.exists() {
        for path in files_below(&folder)? {
            let relative = path.strip_prefix(&workspace.root).unwrap_or(&path).to_path_buf();
            if !wanted.contains_key(&relative) {
                paths.push(relative);
            }
        }
    }
    Ok(paths)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    fs::write(path, content).map_err(Error::io("write", path))
}
