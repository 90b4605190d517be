//! `cargo xtask image`: a container image of one program and its libraries, FROM scratch.

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

/// What to build an image of.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The program; without one, `sheaf-component` is built for release.
    #[arg(long)]
    program: Option<PathBuf>,
    /// The name of the image; by default that of the program with its version.
    #[arg(long)]
    tag: Option<String>,
    /// The Docker client; its engine is the one that `DOCKER_HOST` names.
    #[arg(long, default_value = "docker")]
    docker: PathBuf,
    /// Only lay out the files below the target directory.
    #[arg(long)]
    no_build: bool,
}

/// Builds it.
///
/// # Errors
///
/// Fails where the program is not there or needs a library that is not, and where Docker fails.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => {
            let arguments = ["build", "--release", "--package", "sheaf-component"];
            process::run(workspace.cargo().args(arguments))?;
            workspace.target.join("release/sheaf-component")
        }
    };
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = workspace.target.join("image").join(&name);
    lay_out(&program, &name, &folder)?;
    println!("{}", folder.display());
    if options.no_build {
        return Ok(());
    }
    let default = format!("{name}:{}", env!("CARGO_PKG_VERSION"));
    let tag = options.tag.as_ref().unwrap_or(&default);
    // The classic builder: it is in the engine, and needs nothing from a registry.
    let mut build = Command::new(&options.docker);
    build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", tag]).arg(&folder);
    process::run(&mut build)?;
    println!("{tag}");
    Ok(())
}

/// The build context: a recipe and everything that the image has.
fn lay_out(program: &Path, name: &str, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Error::io("remove", folder))?;
    }
    let root = folder.join("root");
    copy(program, &root.join("usr/bin").join(name))?;
    for library in libraries(program)? {
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
    fs::write(&recipe, recipe_text(name)).map_err(Error::io("write", &recipe))
}

fn recipe_text(name: &str) -> String {
    format!(
        "FROM scratch\nCOPY root/ /\nCOPY --chown={USER} data/{DATA}/ /{DATA}/\n\
         WORKDIR /{DATA}\nUSER {USER}\nENTRYPOINT [\"/usr/bin/{name}\"]\n"
    )
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
    fn the_image_is_made_from_nothing_and_runs_the_program_as_nobody() {
        let recipe = recipe_text("sheaf-component");
        assert!(recipe.starts_with("FROM scratch\n"), "{recipe}");
        assert!(recipe.contains("USER 65532:65532\n"), "{recipe}");
        assert!(recipe.ends_with("ENTRYPOINT [\"/usr/bin/sheaf-component\"]\n"), "{recipe}");
    }
}
