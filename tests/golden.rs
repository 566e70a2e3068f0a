//! Stored forms, byte for byte: what one version writes, every later one must read.
//!
//! A test that fails here means that devices in the field would lose their identity or their
//! tasks. Give the record a new version; never change a file in `tests/golden`. Files for a new
//! version are written by `EDGEAGENT_WRITE_GOLDEN=1 cargo test --test golden`, only where they
//! are missing.

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use core::fmt::Debug;
    use std::{fs, path::PathBuf};

    use edgeagent::seal::{Sealer, Unsealed};
    use serde::{Serialize, de::DeserializeOwned};

    use super::support::{identity, task_record};

    fn golden(name: &str, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        if std::env::var_os("EDGEAGENT_WRITE_GOLDEN").is_some() && !path.exists() {
            fs::write(&path, make()).unwrap();
        }
        fs::read(&path).unwrap()
    }

    fn sealer() -> Sealer {
        Sealer::of_host(&[7; 32], &[b"cid=1".to_vec(), b"serial-number=1000".to_vec()]).unwrap()
    }

    fn compare<T: Serialize + DeserializeOwned + PartialEq + Debug>(
        name: &str,
        purpose: &str,
        value: &T,
    ) {
        let encoded = postcard::to_stdvec(value).unwrap();
        let plain = golden(&format!("{name}.postcard"), || encoded.clone());
        assert_eq!(encoded, plain, "the encoding of {name} changed");
        assert_eq!(&postcard::from_bytes::<T>(&plain).unwrap(), value);

        let sealed = golden(&format!("{name}.sealed"), || {
            sealer().seal(purpose, 12, value, usize::MAX).unwrap()
        });
        let opened: Unsealed<T> = sealer().unseal(purpose, &sealed).unwrap();
        assert_eq!(opened.generation, 12);
        assert_eq!(&opened.value, value);
    }

    #[test]
    fn identity_v1() {
        compare("identity-v1", "identity", &identity());
    }

    #[test]
    fn task_record_v1() {
        compare("task-record-v1", "task:task1", &task_record("task1"));
    }
}
