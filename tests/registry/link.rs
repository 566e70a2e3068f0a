//! A large layer over a slow link that is cut every five seconds.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use edgeagent::{image::FetchEvent, model::RegistrySettings};

use crate::support::{Image, Scratch, alone, assert_here, finish, memory, run, start};

const SERVER: &str = "10.98.0.2";

/// A machine at the other end of the link: the namespace of a process, killed with the test.
struct Other {
    holder: Child,
    registry: Option<Child>,
}

impl Other {
    fn new() -> Self {
        let holder = Command::new("unshare").args(["--net", "sleep", "300"]).spawn().unwrap();
        let other = Self { holder, registry: None };
        let pid = other.holder.id().to_string();
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        while fs::read_link(format!("/proc/{pid}/ns/net")).unwrap() == own {
            thread::sleep(Duration::from_millis(5));
        }
        run("ip", &["link", "add", "c0", "type", "veth", "peer", "name", "s0", "netns", &pid]);
        run("ip", &["address", "add", "10.98.0.1/24", "dev", "c0"]);
        run("ip", &["link", "set", "c0", "up"]);
        other.inside(&["ip", "address", "add", "10.98.0.2/24", "dev", "s0"]);
        other.inside(&["ip", "link", "set", "s0", "up"]);
        other
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.id().to_string()).arg("--net").args(words);
        command
    }

    fn inside(&self, words: &[&str]) {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{words:?} {output:?}");
    }

    fn serve(&mut self, scratch: &Scratch) {
        let config = scratch.path("registry.yml");
        let root = scratch.path("blobs");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {SERVER}:5000\n",
            root.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = self.command(&["docker-registry", "serve", config.to_str().unwrap()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.registry = Some(child);
        let began = Instant::now();
        while TcpStream::connect((SERVER, 5000)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "docker-registry does not listen");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        for child in self.registry.iter_mut().chain([&mut self.holder]) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Bytes that came over the link, with all headers and whatever came twice.
fn received() -> u64 {
    let text = run("ip", &["-s", "-j", "link", "show", "c0"]);
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    value[0]["stats64"]["rx"]["bytes"].as_u64().unwrap()
}

/// Resets every connection, and takes the link away for a moment.
fn cut() {
    let rule = ["OUTPUT", "-o", "c0", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"];
    let change = |what: &str| run("iptables", &[&["-w", what][..], &rule].concat());
    change("-I");
    thread::sleep(Duration::from_millis(200));
    run("ip", &["link", "set", "c0", "down"]);
    thread::sleep(Duration::from_millis(500));
    run("ip", &["link", "set", "c0", "up"]);
    change("-D");
}

#[test]
#[ignore = "a minute: make test-long"]
fn a_large_layer_comes_over_a_link_that_is_cut_every_five_seconds() {
    if !alone("link::a_large_layer_comes_over_a_link_that_is_cut_every_five_seconds") {
        return;
    }
    let scratch = Scratch::new("link");
    let image = Image::plain(&[100_000_000]);
    image.layout(&scratch.path("layout"));
    let mut other = Other::new();
    other.serve(&scratch);
    let source = format!("oci:{}:img", scratch.path("layout").display());
    let name = format!("{SERVER}:5000/x:1");
    run("skopeo", &["copy", "-q", "--dest-tls-verify=false", &source, &format!("docker://{name}")]);
    let shape = "qdisc add dev s0 root tbf rate 80mbit burst 128k latency 50ms";
    other.inside(&[&["tc"][..], &shape.split(' ').collect::<Vec<_>>()].concat());

    let store = scratch.path("store");
    let settings =
        RegistrySettings { insecure: vec![String::from("10.98.0.0/24")], ..Default::default() };
    let before = received();
    let done = Arc::new(AtomicBool::new(false));
    let peak = Arc::new(AtomicU64::new(0));
    let cutter = {
        let (done, peak) = (Arc::clone(&done), Arc::clone(&peak));
        thread::spawn(move || {
            let (mut cuts, mut last) = (0, Instant::now());
            while !done.load(Ordering::SeqCst) {
                peak.fetch_max(memory().unwrap_or(0), Ordering::SeqCst);
                if Duration::from_secs(5) <= last.elapsed() {
                    last = Instant::now();
                    cut();
                    cuts += 1;
                }
                thread::sleep(Duration::from_millis(50));
            }
            cuts
        })
    };
    // The first fetch is killed with SIGKILL on the way; the next one knows nothing of it.
    let began = Instant::now();
    let mut fetch = start(&store, &name, "", &settings);
    smol::block_on(async {
        loop {
            match fetch.next().await.unwrap() {
                FetchEvent::Progress { done, total } if total / 3 < done => break,
                FetchEvent::Progress { .. } => {}
                last @ (FetchEvent::Done { .. } | FetchEvent::Failed { .. }) => panic!("{last:?}"),
            }
        }
    });
    drop(fetch);
    let event = finish(start(&store, &name, "", &settings));
    done.store(true, Ordering::SeqCst);
    let cuts = cutter.join().unwrap();
    let came = received() - before;
    let peak = peak.load(Ordering::SeqCst);
    println!("{came} bytes for {}, {cuts} cuts, {peak} kB, {:?}", image.size(), began.elapsed());
    assert_here(&event, &store, &name, &image);
    assert!(2 <= cuts, "{cuts}");
    assert!(came * 100 < image.size() * 105, "{came} bytes came for {}", image.size());
    assert!(0 < peak && peak <= 8 << 10, "{peak} kB");
}
