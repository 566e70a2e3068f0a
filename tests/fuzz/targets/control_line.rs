//! What stands on the control socket, in both directions.

use edgeagent::node::control::{Request, Response};

/// What is understood is written and read again the same; no fault of a request repeats it.
pub fn run(data: &[u8]) {
    match Request::parse(data) {
        Ok(request) => {
            let line = serde_json::to_vec(&request).expect("it was JSON");
            assert_eq!(Request::parse(&line).ok(), Some(request));
        }
        Err(fault) => {
            let told = fault.to_string();
            let words = data.split(|byte| !byte.is_ascii_alphanumeric());
            for word in words.filter(|word| 12 < word.len()) {
                let word = String::from_utf8_lossy(word);
                assert!(!told.contains(&*word), "{told}");
            }
        }
    }
    if let Ok(response) = Response::parse(data) {
        let line = serde_json::to_vec(&response).expect("it was JSON");
        let again = Response::parse(&line).expect("it was written by us");
        assert_eq!(serde_json::to_vec(&again).ok(), Some(line));
    }
}
