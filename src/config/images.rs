//! The keys of the image store.

use core::time::Duration;
use std::path::PathBuf;

use super::{ConfigFault, bad, is_folder, json::Json, strings, text};
use crate::model::{ImageSettings, byte_size};

/// Takes one of the section's keys.
pub(super) fn set(settings: &mut ImageSettings, key: &str, value: Json) -> Result<(), ConfigFault> {
    const AGE: &str = r#"an age such as "30d" or "12h", or "0" for never"#;
    const BYTES: &str = r#"a string with a number of bytes, such as "512m"; "0" for none"#;
    if key == "additional-image-stores" {
        let allowed = r#"a list of absolute paths, such as ["/usr/share/images"]"#;
        let folders = strings(key, value, allowed, is_folder)?;
        settings.additional_stores = folders.into_iter().map(PathBuf::from).collect();
        return Ok(());
    }
    if key == "any-platform" {
        let Json::Bool(any) = value else { return Err(bad(key, "true or false")) };
        settings.any_platform = any;
        return Ok(());
    }
    let text = text(&value);
    if key == "image-max-age" {
        let age = text.and_then(age).ok_or_else(|| bad(key, AGE))?;
        settings.max_age = Some(age).filter(|age| !age.is_zero());
        return Ok(());
    }
    let bytes = text.and_then(byte_size).ok_or_else(|| bad(key, BYTES))?;
    if key == "image-quota" {
        settings.quota_bytes = Some(bytes).filter(|bytes| *bytes != 0);
    } else {
        settings.min_free_bytes = bytes;
    }
    Ok(())
}

/// Days or hours.
fn age(text: &str) -> Option<Duration> {
    let (number, hours) = match text {
        "0" => ("0", 1),
        _ => text.strip_suffix('d').map(|days| (days, 24)).or_else(|| {
            let hours = text.strip_suffix('h')?;
            Some((hours, 1))
        })?,
    };
    let number = number.bytes().all(|b| b.is_ascii_digit()).then_some(number)?;
    number.parse::<u32>().ok().map(|n| Duration::from_secs(u64::from(n) * hours * 3600))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_keys_of_images_are_taken_and_their_mistakes_named() {
        let parse = |text: &str| Config::parse(text.as_bytes()).map(|config| config.images);
        let default = ImageSettings::default();
        assert_eq!(default.max_age, Some(Duration::from_secs(30 * 86400)));
        let all = r#"{"additional-image-stores": ["/usr/share/a", "/b"], "image-max-age": "12h",
            "image-min-free": "1g", "image-quota": "2g", "any-platform": true}"#;
        let settings = ImageSettings {
            additional_stores: vec!["/usr/share/a".into(), "/b".into()],
            max_age: Some(Duration::from_secs(12 * 3600)),
            min_free_bytes: 1 << 30,
            any_platform: true,
            quota_bytes: Some(2 << 30),
        };
        assert_eq!(parse(all).unwrap(), settings);
        let off = parse(r#"{"image-max-age": "0", "image-min-free": "0", "image-quota": "0"}"#);
        let off = off.unwrap();
        assert_eq!((off.max_age, off.min_free_bytes, off.quota_bytes), (None, 0, None));
        for bad in [
            r#"{"image-max-age": 30}"#,
            r#"{"image-max-age": "30"}"#,
            r#"{"image-max-age": "-1d"}"#,
            r#"{"image-min-free": "10%"}"#,
            r#"{"image-quota": 5}"#,
            r#"{"any-platform": "yes"}"#,
            r#"{"additional-image-stores": ["relative"]}"#,
            r#"{"additional-image-stores": "/a"}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
