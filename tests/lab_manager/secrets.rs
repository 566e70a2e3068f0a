//! A byte search for what must be nowhere in the clear: the join token's secret, the node's key, the
//! content of a swarm secret (threats T1, T2, T19 of anchors.md).

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use edgeagent::{
    model::SealSettings,
    seal::{IdentityStore, Machine, Sealer},
};
use rustix::process::Signal;

use crate::machine::{Agent, Lab, capture, folder, wait_for};

const SOON: Duration = Duration::from_secs(30);
/// Where the private number lies in PKCS#8 of a P-256 key as we write it (RFC 5915, RFC 5208).
const SCALAR: std::ops::Range<usize> = 36..68;

/// A name, and bytes that nobody else has.
type Needle = (&'static str, Vec<u8>);

fn find(needles: &[Needle], place: &str, bytes: &[u8], found: &mut Vec<String>) {
    for (name, needle) in needles {
        if bytes.windows(needle.len()).any(|window| window == needle) {
            found.push(format!("{name} in {place}"));
        }
    }
}

/// Looks through every file below `dir`, and at every name.
fn search(needles: &[Needle], dir: &Path, found: &mut Vec<String>) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        find(needles, "a name", path.as_os_str().as_encoded_bytes(), found);
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files += search(needles, &path, found);
        } else if kind.is_file() {
            files += 1;
            find(needles, &path.display().to_string(), &fs::read(&path).unwrap(), found);
        }
    }
    files
}

fn needles(agent: &Agent, lab: &Lab, secret: &str) -> Vec<Needle> {
    let root = agent.dir().join("data");
    let sealer = Sealer::open(&root, &Machine::this(), &SealSettings::default()).unwrap();
    let identity = IdentityStore::new(&root, sealer).load().unwrap().unwrap();
    let key = identity.certificate.unwrap().key;
    let token = lab.token();
    let (_, token_secret) = token.rsplit_once('-').unwrap();
    assert!(identity.token.expose().ends_with(token_secret.as_bytes()), "the right needle");
    let armour = data_encoding(key.expose());
    vec![
        ("the token", token_secret.into()),
        ("the key, PEM", armour[48..80].into()),
        ("the key, DER", key.expose()[SCALAR].into()),
        ("the secret", secret.into()),
        ("the secret, base64", data_encoding(secret.as_bytes())[..40].into()),
    ]
}

/// Base64, with `openssl`.
fn data_encoding(bytes: &[u8]) -> String {
    let file = folder().join("encode");
    fs::write(&file, bytes).unwrap();
    let command = ["base64", "-A", "-in", file.to_str().unwrap()];
    let output = Command::new("openssl").args(command).output().unwrap();
    fs::remove_file(file).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Makes a process crash by itself: signals from outside a shim only reads. Its next instruction
/// will be at address 0 (ptrace requests 16, 6 and 17 of x86_64).
fn crash(pid: u32) {
    let script = "my $p = 0 + shift; syscall(101, 16, $p, 0, 0) == 0 or die \"attach $!\"; \
                  waitpid $p, 0; syscall(101, 6, $p, 128, 0) == 0 or die \"poke $!\"; \
                  syscall(101, 17, $p, 0, 0) == 0 or die \"detach $!\"";
    capture(Command::new("perl").args(["-e", script, &pid.to_string()])).ok();
}

fn cores(dir: &Path) -> Vec<PathBuf> {
    let core = |path: &PathBuf| path.file_name().unwrap().as_encoded_bytes().starts_with(b"core");
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(core).collect()
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn no_file_environment_argument_log_or_core_holds_a_secret() {
    let lab = Lab::start("secrets", &["--heartbeat", "1s"]);
    let mut agent = Agent::new("edge-secrets");
    let joined = agent.join(&lab);
    agent.start_with_cores();
    lab.await_node("edge-secrets", "Ready");
    agent.load_image();

    let secret = format!("{:032x}{:032x}", std::process::id(), u64::MAX / 7);
    let file = folder().join("the-secret");
    fs::write(&file, &secret).unwrap();
    let option = format!("api={}", file.display());
    // It must be there for the container, and be told to nobody else.
    let script = "test $(wc -c < /run/secrets/api) = 64 && echo has it; \
                  trap 'exit 0' TERM; sleep 1000 & wait";
    let words = ["service", "create", "--name", "keeper", "--secret", &option, "demo:1"];
    lab.run(&[&words[..], &["sh", "-c", script]].concat());
    let task = lab.await_running("keeper", 1).remove(0);
    wait_for("the container to see its secret", SOON, || {
        let logs = lab.run(&["service", "logs", "keeper"]);
        if logs.contains("has it") { Ok(()) } else { Err(logs) }
    });
    fs::remove_file(file).unwrap();

    let needles = needles(&agent, &lab, &secret);
    let mut found = Vec::new();
    let files = search(&needles, agent.dir(), &mut found);
    assert!(10 < files, "{files} files are too few to be all");
    find(&needles, "what join said", format!("{joined:?}").as_bytes(), &mut found);

    let shims = children(agent.pid());
    let inits: Vec<u32> = shims.iter().flat_map(|shim| children(*shim)).collect();
    assert!(!shims.is_empty() && !inits.is_empty(), "{task}");
    for pid in [agent.pid()].iter().chain(&shims).chain(&inits) {
        for what in ["environ", "cmdline"] {
            let path = format!("/proc/{pid}/{what}");
            find(&needles, &path, &fs::read(&path).unwrap(), &mut found);
        }
    }
    assert!(found.is_empty(), "{found:#?}");

    // The same settings make a core of any other program…
    let core = Command::new("sh")
        .args(["-c", "ulimit -c unlimited; kill -ABRT $$"])
        .current_dir(agent.dir())
        .status()
        .unwrap();
    let dumps = core.core_dumped();
    let plain = cores(agent.dir());
    for path in &plain {
        fs::remove_file(path).unwrap();
    }
    // The same end, with something to see of it.
    let mut plain_crash =
        Command::new("sleep").arg("1000").current_dir(agent.dir()).spawn().unwrap();
    crash(plain_crash.id());
    assert_eq!(plain_crash.wait().unwrap().signal(), Some(Signal::SEGV.as_raw()));
    // … and none of ours. The agent first: its tasks outlive it.
    agent.signal(Signal::ABORT);
    assert!(cores(agent.dir()).is_empty(), "the agent left a core");
    for shim in shims {
        crash(shim);
        wait_for("the shim to be gone", SOON, || {
            let stat = fs::read_to_string(format!("/proc/{shim}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") { Ok(()) } else { Err(stat) }
        });
    }
    let left = search(&needles, agent.dir(), &mut found);
    assert!(found.is_empty(), "{found:#?} in {left} files");
    assert!(cores(agent.dir()).is_empty(), "a shim left a core");
    if !dumps {
        println!("this host makes no cores at all: nothing was shown about them");
    }
    agent.start();
    agent.await_state("ready", SOON);
}
