//! Pulls through the proxy that the environment names.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Output},
    sync::mpsc,
    thread,
};

use crate::{
    server::Server,
    support::{Image, Scratch, program},
};

/// Makes tunnels for who says the right word, for ever. Returns its address and what it is asked.
fn proxy() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let tell = tell.clone();
            thread::spawn(move || tunnel(&stream.unwrap(), &tell));
        }
    });
    (address, told)
}

fn tunnel(mut client: &TcpStream, tell: &mpsc::Sender<String>) {
    let mut head = String::new();
    let mut reader = BufReader::new(client);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or_default() == 0 {
            return;
        }
    }
    let to = head.split(' ').nth(1).unwrap_or_default().to_owned();
    tell.send(head.lines().next().unwrap_or_default().to_owned()).unwrap();
    // `user:secret`
    if !head.contains("proxy-authorization: Basic dXNlcjpzZWNyZXQ=\r\n") {
        drop(client.write_all(b"HTTP/1.1 407 Who are you\r\n\r\n"));
        return;
    }
    let server = TcpStream::connect(to).unwrap();
    client.write_all(b"HTTP/1.1 200 Go on\r\n\r\n").unwrap();
    thread::scope(|both| {
        both.spawn(|| io::copy(&mut reader, &mut &server));
        drop(io::copy(&mut &server, &mut client));
        drop(client.shutdown(std::net::Shutdown::Both));
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_proxy_of_the_environment_is_gone_through() {
    let scratch = Scratch::new("proxy");
    let config = scratch.path("agent.json");
    let text =
        serde_json::json!({"data-root": scratch.path("data"), "exec-root": scratch.path("run")});
    fs::write(&config, text.to_string()).unwrap();
    let image = Image::new(&[1000]);
    let server = Server::good(&image);
    let (address, told) = proxy();
    let pull = |proxy: &str, spared: &str| -> Output {
        let mut command = Command::new(program());
        command.args(["--config", config.to_str().unwrap(), "image", "pull", &server.name()]);
        command.env("HTTP_PROXY", proxy).env("NO_PROXY", spared).output().unwrap()
    };

    let refused = pull(&format!("http://user:wrong@{address}"), "");
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("HTTP status 407"), "{why}");
    assert!(!why.contains("wrong") && server.asked().is_empty(), "{why}");

    let done = pull(&format!("http://user:secret@{address}"), "");
    assert!(done.status.success(), "{done:?}");
    let registry = server.name();
    let registry = registry.split('/').next().unwrap();
    for asked in told.try_iter() {
        assert_eq!(asked, format!("CONNECT {registry} HTTP/1.1"));
    }
    assert!(!server.asked().is_empty());

    let spared = pull("http://user:wrong@127.0.0.1:1", "example.com, 127.0.0.1");
    assert!(spared.status.success(), "{spared:?}");
}

/// A proxy is neither the registry nor somebody that it names: what it asks for is not heard.
#[test]
fn a_proxy_that_wants_a_login_gets_none_of_the_registry() {
    let scratch = Scratch::new("proxy-login");
    let image = Image::new(&[1000]);
    let (server, thief) = (Server::good(&image), Server::good(&image));
    let (config, auth) = (scratch.path("agent.json"), scratch.path("auth.json"));
    // `user:secret`
    let login = serde_json::json!({"auths": {&server.address: {"auth": "dXNlcjpzZWNyZXQ="}}});
    fs::write(&auth, login.to_string()).unwrap();
    let text = serde_json::json!({
        "data-root": scratch.path("data"), "exec-root": scratch.path("run"),
        "registry-auth-file": auth,
    });
    fs::write(&config, text.to_string()).unwrap();
    let realm = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\"", thief.address);
    for status in [401, 403, 407] {
        let answer = format!("HTTP/1.1 {status} No\r\n{realm}\r\nContent-Length: 0\r\n\r\n");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let (mut head, mut reader) = (String::new(), BufReader::new(&stream));
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) != 0 {
                }
                tell.send(head).unwrap();
                drop((&stream).write_all(answer.as_bytes()));
            }
        });
        let mut command = Command::new(program());
        command.args(["--config", config.to_str().unwrap(), "image", "pull", &server.name()]);
        let output = command.env("HTTP_PROXY", address).env("NO_PROXY", "").output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && why.contains(&format!("status {status}")), "{why}");
        let heads: Vec<String> = told.try_iter().filter(|head| !head.is_empty()).collect();
        assert!(heads.iter().all(|head| !head.contains("uthorization")), "{heads:?}");
        // Once in TLS and once without at most: it would say the same again.
        assert!(heads.len() <= 2, "{heads:?}");
    }
    assert!(thief.asked().is_empty() && server.asked().is_empty());
}
