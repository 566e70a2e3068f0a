//! The host's `/etc/resolv.conf`.

use edgeagent::model::ResolvConf;

/// Any text: every word comes from it, none holds white space, and what is written again from
/// them reads the same.
pub fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let read = ResolvConf::read(text);
    let words = [&read.nameservers, &read.search, &read.options];
    for word in words.into_iter().flatten() {
        assert!(!word.is_empty() && !word.contains(char::is_whitespace), "{word:?}");
    }
    let mut again = String::new();
    for nameserver in &read.nameservers {
        again.push_str(&format!("nameserver {nameserver}\n"));
    }
    again.push_str(&format!("search {}\n", read.search.join(" ")));
    again.push_str(&format!("options {}\n", read.options.join(" ")));
    for line in &read.others {
        again.push_str(&format!("{line}\n"));
    }
    assert_eq!(ResolvConf::read(&again), read);
}
