//! `cargo xtask image`: a container image of our programs and their libraries, FROM scratch.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::error::{Error, Result};
use crate::process;
use crate::workspace::Workspace;

/// Nobody in particular: the user of the image, by number, since it has no names.
const USER: &str = "65532:65532";
/// What components keep is below this.
const DATA: &str = "var/lib/sheaf";
/// Certificates to trust, where this machine has them.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// What is in it: packages, and the programs that they are.
const PROGRAMS: [(&str, &str); 3] =
    [("sheaf-cli", "sheaf"), ("sheafctl", "sheafctl"), ("sheaf-component", "sheaf-component")];

/// What to build an image of.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A program, as often as there are some; without any, all of ours are built.
    #[arg(long)]
    program: Vec<PathBuf>,
    /// Build them for development: that is quicker, and they are larger and slower.
    #[arg(long, conflicts_with = "program")]
    debug: bool,
    /// The name of the image.
    #[arg(long, default_value = concat!("sheaf:", env!("CARGO_PKG_VERSION")))]
    tag: String,
    /// The Docker client; its engine is the one that `DOCKER_HOST` names. By default the one
    /// in PATH, or that of `cargo xtask services docker`.
    #[arg(long)]
    docker: Option<PathBuf>,
    /// Only lay out the files below the target directory.
    #[arg(long)]
    no_build: bool,
}

/// Builds it.
///
/// # Errors
///
/// Fails where a program is not there or needs a library that is not, and where Docker fails.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let programs = match options.program.is_empty() {
        true => built(workspace, options.debug)?,
        false => options.program.clone(),
    };
    let folder = workspace.target.join("image");
    lay_out(&programs, &folder)?;
    let size = size(&folder.join("root"))?;
    println!("{}: {:.1} MB", folder.display(), size as f64 / 1e6);
    if options.no_build {
        return Ok(());
    }
    let docker = options.docker.clone().unwrap_or_else(|| {
        let own = workspace.target.join("services/docker/package/usr/bin/docker");
        if in_path("docker") || !own.is_file() { "docker".into() } else { own }
    });
    // The classic builder: it is in the engine, and needs nothing from a registry.
    let mut build = Command::new(&docker);
    build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", &options.tag]);
    process::run(build.arg(&folder))?;
    println!("{}", options.tag);
    Ok(())
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Our programs, built now.
fn built(workspace: &Workspace, debug: bool) -> Result<Vec<PathBuf>> {
    let mut build = workspace.cargo();
    build.args(["build", "--locked"]);
    if !debug {
        build.arg("--release");
    }
    for (package, _) in PROGRAMS {
        build.args(["--package", package]);
    }
    process::run(&mut build)?;
    let folder = workspace.target.join(if debug { "debug" } else { "release" });
    Ok(PROGRAMS.iter().map(|(_, program)| folder.join(program)).collect())
}

/// The build context: a recipe and everything that the image has.
fn lay_out(programs: &[PathBuf], folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Error::io("remove", folder))?;
    }
    let root = folder.join("root");
    let mut needed = BTreeSet::new();
    for program in programs {
        let name = program.file_name().unwrap_or_default();
        let inside = root.join("usr/bin").join(name);
        copy(program, &inside)?;
        // Names of functions are half of a program for development, and of no use here.
        process::run(Command::new("strip").arg(&inside))?;
        needed.extend(libraries(program)?);
    }
    for library in needed {
        // Where the program looks for it.
        let inside = library.strip_prefix("/").unwrap_or(&library).to_path_buf();
        copy(&library, &root.join(inside))?;
    }
    if Path::new(CERTIFICATES).is_file() {
        copy(Path::new(CERTIFICATES), &root.join(CERTIFICATES.trim_start_matches('/')))?;
    }
    let mut folders = vec![root.join("tmp")];
    folders.push(folder.join("data").join(DATA));
    for made in &folders {
        fs::create_dir_all(made).map_err(Error::io("create", made))?;
    }
    let everybody = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(root.join("tmp"), everybody).map_err(Error::io("open", &root))?;
    // A volume that is new gets the owner of the folder that it is put over.
    let keep = folder.join("data").join(DATA).join(".keep");
    fs::write(&keep, "").map_err(Error::io("write", &keep))?;
    let recipe = folder.join("Dockerfile");
    fs::write(&recipe, recipe_text()).map_err(Error::io("write", &recipe))
}

/// No program is the entry: which one it is says whoever starts a container, by its name.
fn recipe_text() -> String {
    format!(
        "FROM scratch\nCOPY root/ /\nCOPY --chown={USER} data/{DATA}/ /{DATA}/\n\
         ENV PATH=/usr/bin\nWORKDIR /{DATA}\nUSER {USER}\nCMD [\"sheafctl\", \"--help\"]\n"
    )
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        let found = entry.metadata().map_err(Error::io("read", &entry.path()))?;
        sum += if found.is_dir() { size(&entry.path())? } else { found.len() };
    }
    Ok(sum)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    fs::copy(from, to).map(drop).map_err(Error::io("copy", from))
}

/// The shared libraries of a program, its loader among them; none of a static one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output();
    let output = output.map_err(|source| process::start_error(&Command::new("ldd"), source))?;
    parse(&String::from_utf8_lossy(&output.stdout)).map_err(|missing| {
        Error::Message(format!("{} needs {missing}, which is not here", program.display()))
    })
}

/// What `ldd` prints; or the name of a library that it has not found.
fn parse(text: &str) -> std::result::Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        if place.starts_with("not found") {
            return Err(name.to_owned());
        }
        let path = place.split(" (").next().unwrap_or_default();
        found.extend(path.starts_with('/').then(|| PathBuf::from(path)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_with_a_path_and_a_missing_one_is_told() {
        let text = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        let expected = ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
        assert_eq!(parse("\tlibssl.so.3 => not found\n"), Err("libssl.so.3".to_owned()));
    }

    #[test]
    fn the_image_is_made_from_nothing_and_runs_its_programs_as_nobody() {
        let recipe = recipe_text();
        assert!(recipe.starts_with("FROM scratch\n"), "{recipe}");
        assert!(recipe.contains("USER 65532:65532\n"), "{recipe}");
        assert!(recipe.contains("PATH=/usr/bin\n") && !recipe.contains("ENTRYPOINT"), "{recipe}");
    }
}
