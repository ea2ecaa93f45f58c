//! The images, made without a registry: stand-ins for the published ones that ours are built from,
//! under their exact names, then ours, by the project's own Dockerfiles and Compose files.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::engine::{Engine, succeeded};
use crate::support::copy_tree;
use crate::support::netns::Network;
use crate::support::tools::tool;

/// What the published Consul image starts with, as far as our Compose files use it.
const CONSUL_ENTRY: &str = "#!/bin/sh
if [ \"$1\" = agent ]; then
    shift
    mkdir -p /consul/data /consul/config
    exec consul agent -data-dir=/consul/data -config-dir=/consul/config \"$@\"
fi
exec \"$@\"
";

/// Every image that the Compose files name, in one file; made once a process.
pub(crate) fn archive() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        // In a thread of its own, since it moves into a network of its own.
        let built = std::thread::spawn(build).join();
        built.expect("the images are built")
    })
}

/// A copy of what somebody has who has the project's folder `docker`.
pub(crate) fn docker_folder(into: &Path) {
    copy_tree(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("docker"),
        &into.join("docker"),
    );
}

fn build() -> PathBuf {
    let network = Network::enter(1);
    let engine = Engine::start(&network, 0);
    let project = engine.scratch("project");
    context(&project);
    program(&project);
    base_images(&engine);
    let compose = project.join("docker/compose.yaml");
    let mut command = engine.client("docker-compose");
    command.arg("--file").arg(&compose);
    // The program is there already, so what would compile it needs no compiler.
    let runtime = format!("RUST={}", argument("docker/Dockerfile", "RUNTIME"));
    let args = ["build", "--build-arg", &runtime, "n1", "lb"];
    succeeded(
        "docker-compose",
        &args,
        &command.args(args).output().expect("docker-compose"),
    );
    let archive = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docker-images.tar");
    let mut save = vec![
        "save".to_owned(),
        "--output".to_owned(),
        archive.display().to_string(),
    ];
    save.extend(named_in(&engine, &compose));
    engine.docker(&save.iter().map(String::as_str).collect::<Vec<_>>());
    archive
}

/// What a Compose file's services run from, without those of profiles.
fn named_in(engine: &Engine, compose: &Path) -> BTreeSet<String> {
    let mut command = engine.client("docker-compose");
    command
        .arg("--file")
        .arg(compose)
        .args(["config", "--images"]);
    let output = command.output().expect("docker-compose");
    let said = succeeded("docker-compose", &["config"], &output);
    said.lines().map(str::to_owned).collect()
}

/// What a Dockerfile says an argument is unless told otherwise.
pub(crate) fn argument(dockerfile: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(dockerfile);
    let text = fs::read_to_string(path).expect("a Dockerfile");
    let start = format!("ARG {name}=");
    let value = text.lines().find_map(|line| line.strip_prefix(&start));
    value
        .unwrap_or_else(|| panic!("{dockerfile} has no {start}"))
        .to_owned()
}

/// The project as far as a build may see it.
pub(crate) fn context(to: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(to.join("docs")).expect("a directory");
    for file in [
        ".dockerignore",
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE",
        "docs/openapi.json",
    ] {
        fs::copy(root.join(file), to.join(file)).expect("a file to copy");
    }
    copy_tree(&root.join("src"), &to.join("src"));
    docker_folder(to);
}

/// The program that is tested here, which then need not be compiled.
fn program(to: &Path) {
    fs::create_dir_all(to.join("dist")).expect("a directory");
    let mut strip = Command::new("strip");
    strip
        .arg("-o")
        .arg(to.join("dist/quorate"))
        .arg(env!("CARGO_BIN_EXE_quorate"));
    let output = strip
        .output()
        .expect("strip, which comes with a C compiler");
    succeeded("strip", &["quorate"], &output);
}

fn base_images(engine: &Engine) {
    let program = Path::new(env!("CARGO_BIN_EXE_quorate"));
    let mut debian = Root::new(engine);
    debian.libraries_of(program);
    debian.import(engine, &argument("docker/Dockerfile", "RUNTIME"), "");

    let mut consul = Root::new(engine);
    consul.program(&tool("consul"), "usr/bin/consul");
    consul.script("entry", CONSUL_ENTRY);
    consul.import(engine, &consul_image(), "ENTRYPOINT [\"/entry\"]");

    let mut template = Root::new(engine);
    template.program(&tool("consul-template"), "bin/consul-template");
    template.import(
        engine,
        &argument("docker/lb/Dockerfile", "CONSUL_TEMPLATE"),
        "",
    );

    let mut nginx = Root::new(engine);
    nginx.program(&tool("nginx-1.31"), "usr/sbin/nginx");
    nginx.libraries_of(&tool("consul-template"));
    nginx.import(engine, &argument("docker/lb/Dockerfile", "NGINX"), "");
}

/// As both Compose files name it.
fn consul_image() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/compose.yaml");
    let text = fs::read_to_string(path).expect("a Compose file");
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("image: hashicorp/consul:"));
    format!("hashicorp/consul:{}", line.expect("Consul's image"))
}

/// A small file system: busybox, and what is put beside it.
struct Root(tempfile::TempDir);

impl Root {
    fn new(engine: &Engine) -> Self {
        let dir = tempfile::tempdir_in(engine.scratch("")).expect("a directory");
        let root = Self(dir);
        for made in [
            "bin",
            "etc",
            "tmp",
            "run",
            "root",
            "var/lib",
            "usr/bin",
            "usr/lib",
            "usr/lib64",
        ] {
            fs::create_dir_all(root.at(made)).expect("a directory");
        }
        fs::set_permissions(root.at("tmp"), fs::Permissions::from_mode(0o1777))
            .expect("to share it");
        symlink("usr/lib", root.at("lib")).expect("a link");
        symlink("usr/lib64", root.at("lib64")).expect("a link");
        let busybox = tool("busybox");
        fs::copy(&busybox, root.at("bin/busybox")).expect("busybox");
        let list = Command::new(&busybox)
            .arg("--list")
            .output()
            .expect("busybox");
        for name in succeeded("busybox", &["--list"], &list)
            .lines()
            .filter(|n| *n != "busybox")
        {
            symlink("/bin/busybox", root.at("bin").join(name)).expect("a link");
        }
        root
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn script(&mut self, to: &str, text: &str) {
        fs::write(self.at(to), text).expect("a script");
        fs::set_permissions(self.at(to), fs::Permissions::from_mode(0o755)).expect("to run it");
    }

    fn program(&mut self, from: &Path, to: &str) {
        let target = self.at(to);
        fs::create_dir_all(target.parent().expect("a directory")).expect("a directory");
        fs::copy(from, target).expect("a program");
        self.libraries_of(from);
    }

    /// None for a program that is linked with all it needs.
    fn libraries_of(&mut self, program: &Path) {
        let output = Command::new("ldd")
            .arg(program)
            .output()
            .expect("ldd, of the C library");
        for word in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            if let Some(path) = word.strip_prefix('/') {
                let target = self.at(path);
                fs::create_dir_all(target.parent().expect("a directory")).expect("a directory");
                fs::copy(Path::new("/").join(path), target).expect("a library");
            }
        }
    }

    fn import(self, engine: &Engine, name: &str, change: &str) {
        let mut tar = Command::new("tar");
        tar.arg("-C")
            .arg(self.0.path())
            .args(["-c", "."])
            .stdout(Stdio::piped());
        let mut tar = tar.spawn().expect("tar");
        let mut import = engine.client("docker");
        import.arg("import");
        if !change.is_empty() {
            import.args(["--change", change]);
        }
        import
            .args(["-", name])
            .stdin(tar.stdout.take().expect("its output"));
        let output = import.output().expect("the docker client");
        assert!(tar.wait().expect("its end").success(), "tar failed");
        succeeded("docker import", &[name], &output);
    }
}
