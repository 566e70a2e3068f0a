//! Packing and installing. The program in these tarballs must never be run, so it is no program.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Folder, done, root, run};

const TOKEN: &str =
    "SWMTKN-1-3pu6hszjas19xyp7ghgosyx9k8atbfcr8p2is99znpy26u2lkl-7p73s1dx5in4tatdymyhg9hu2";

/// Packs into `folder/out` and returns the tarball.
fn pack(folder: &Folder, umask: &str) -> PathBuf {
    let docs = folder.path("docs");
    fs::create_dir_all(&docs).unwrap();
    fs::write(docs.join("THIRD-PARTY.txt"), "what is linked").unwrap();
    fs::write(docs.join("sbom.cdx.json"), "{}").unwrap();
    fs::write(folder.path("binary"), "of another architecture").unwrap();
    let script = format!("umask {umask}; exec \"$0\" aarch64 binary docs out");
    let mut command = Command::new("sh");
    command.current_dir(&folder.0).arg("-c").arg(script).arg(root().join("targets/pack"));
    let said = done(command.env("SOURCE_DATE_EPOCH", "1795370000").env("TZ", umask));
    PathBuf::from(said.trim())
}

/// Packs, unpacks, and returns the folder with `install.sh`.
pub(super) fn unpacked(folder: &Folder) -> PathBuf {
    let tarball = pack(folder, "022");
    done(Command::new("tar").arg("-xzf").arg(&tarball).arg("-C").arg(&folder.0));
    folder.path(tarball.file_name().unwrap().to_str().unwrap().strip_suffix(".tar.gz").unwrap())
}

/// A device's image with what tells its init system, and the installer pointed at it.
fn image(folder: &Folder, mark: &str) -> (PathBuf, impl Fn(&[&str]) -> (i32, String) + use<>) {
    let image = folder.path("image");
    let mark = image.join(mark);
    fs::create_dir_all(mark.parent().unwrap()).unwrap();
    fs::write(mark, "").unwrap();
    fs::write(folder.path("token"), format!("{TOKEN}\n")).unwrap();
    let (here, place, install) = (folder.0.clone(), image.clone(), unpacked(folder));
    let install = move |words: &[&str]| {
        let mut command = Command::new("sh");
        command.current_dir(&here).arg(install.join("install.sh"));
        run(command.arg("--root").arg(&place).args(words))
    };
    (image, install)
}

/// Every file and link below a folder, with mode and content.
fn listing(folder: &Path) -> Vec<String> {
    let find = "find . ! -type d -printf '%p %m %l\\n' | sort; \
                find . -type f | sort | xargs sha256sum";
    let said = done(Command::new("sh").arg("-c").arg(find).current_dir(folder));
    said.lines().map(String::from).collect()
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let (one, two) = (Folder::new(), Folder::new());
    let first = pack(&one, "022");
    fs::create_dir_all(two.path("docs")).unwrap();
    let second = pack(&two, "077");
    assert_eq!(first.file_name(), second.file_name());
    assert!(first.to_str().unwrap().ends_with("-aarch64.tar.gz"), "{}", first.display());
    assert!(fs::read(first).unwrap() == fs::read(&second).unwrap(), "two tarballs differ");
    // Nothing of this machine is in it.
    let said = done(Command::new("tar").arg("-tvzf").arg(&second).env("TZ", "UTC"));
    for line in said.lines() {
        assert!(line.contains(" 0/0 ") && line.contains(" 2026-11-22 "), "{line}");
    }
}

/// The public key says whose release it is; what was changed on the way is told.
#[test]
fn a_release_is_signed_by_who_has_the_key() {
    let folder = Folder::new();
    pack(&folder, "022");
    let sh = |script: &str| {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg("sh").arg(root().join("targets/sums"));
        run(command.current_dir(&folder.0))
    };
    let done = |script: &str| {
        let (code, said) = sh(script);
        assert_eq!(code, 0, "{script}: {said}");
    };
    done("ssh-keygen -q -t ed25519 -N '' -f ours && ssh-keygen -q -t ed25519 -N '' -f theirs");
    done("echo \"edgeagent $(cat ours.pub)\" >signers");
    let verify = "cd out && ssh-keygen -Y verify -f ../signers -I edgeagent -n edgeagent-release \
                  -s SHA256SUMS.sig <SHA256SUMS && sha256sum --check --ignore-missing SHA256SUMS";
    let readme = fs::read_to_string(root().join("targets/README.md")).unwrap();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let told = words(&verify.replace("cd out && ", "").replace("../", "").replace('\\', ""));
    assert!(words(&readme).contains(&told), "what the README says is what is tried here");

    done("\"$1\" out ours");
    done(verify);
    for fault in ["truncate -s -1 out/*.tar.gz", "sed -i 's/^./g/' out/SHA256SUMS"] {
        done("\"$1\" out ours && cp out/*.tar.gz .");
        done(fault);
        assert_ne!(sh(verify).0, 0, "{fault}");
        done("cp *.tar.gz out/");
    }
    done("\"$1\" out theirs");
    assert_ne!(sh(verify).0, 0, "another's signature");
    done("\"$1\" out");
    assert!(!folder.path("out/SHA256SUMS.sig").exists(), "no signature of other sums stays");
    let (code, said) = sh("\"$1\" out signers");
    assert_eq!(code, 1);
    assert!(said.contains("Is it a private key"), "{said}");
}

/// As `make vm` makes it, where compiling the SBOM's tool would take minutes.
#[test]
fn a_tarball_without_an_sbom_installs_too() {
    let folder = Folder::new();
    pack(&folder, "022");
    fs::remove_file(folder.path("docs/sbom.cdx.json")).unwrap();
    let mut again = Command::new(root().join("targets/pack"));
    done(again.current_dir(&folder.0).args(["aarch64", "binary", "docs", "out"]));
    let script =
        "tar -xzf out/*.tar.gz && mkdir -p image && sh edgeagent-*/install.sh --root image";
    done(Command::new("sh").arg("-c").arg(script).current_dir(&folder.0));
    assert!(folder.path("image/usr/share/doc/edgeagent/THIRD-PARTY.txt").is_file());
    assert!(!folder.path("image/usr/share/doc/edgeagent/sbom.cdx.json").exists());
}

#[test]
fn an_image_is_installed_into_twice_and_emptied_again() {
    let folder = Folder::new();
    let (image, install) = image(&folder, "usr/lib/systemd/systemd");
    let before = listing(&image);
    let words = ["--token-file", "token", "10.0.0.1:2377", "manager.example"];
    let (code, said) = install(&words);
    assert_eq!(code, 0, "{said}");

    let join = image.join("etc/edgeagent/join.json");
    assert_eq!(
        fs::read_to_string(&join).unwrap(),
        format!(
            "{{ \"token\": \"{TOKEN}\", \"addresses\": [\"10.0.0.1:2377\", \"manager.example\"] }}\n"
        )
    );
    let mode = |path: &str| fs::metadata(image.join(path)).unwrap().mode() & 0o7777;
    assert_eq!(mode("etc/edgeagent/join.json"), 0o600);
    assert_eq!(mode("etc/edgeagent"), 0o700);
    assert_eq!(mode("usr/bin/edgeagent"), 0o755);
    let wanted = "etc/systemd/system/multi-user.target.wants/edgeagent.service";
    assert_eq!(
        fs::read_link(image.join(wanted)).unwrap(),
        Path::new("/usr/lib/systemd/system/edgeagent.service")
    );
    assert!(image.join("usr/share/doc/edgeagent/THIRD-PARTY.txt").exists());

    let after = listing(&image);
    let (code, said) = install(&words);
    assert_eq!((code, said.lines().count()), (0, 1), "nothing is left to do: {said}");
    assert_eq!(listing(&image), after);

    fs::write(image.join("etc/edgeagent/agent.json"), "{}").unwrap();
    let (code, said) = install(&["--uninstall"]);
    assert_eq!(code, 0, "{said}");
    let left = listing(&image);
    assert!(left.iter().any(|line| line.contains("agent.json")), "settings stay");
    let left: Vec<_> = left.into_iter().filter(|line| !line.contains("agent.json")).collect();
    assert_eq!(left, before, "and nothing else, the token least of all");
    assert_eq!(install(&["--uninstall"]).0, 0, "nothing to remove is no mistake");
}

#[test]
fn other_init_systems_get_their_scripts() {
    let cases = [
        ("sbin/openrc-run", "etc/init.d/edgeagent", Some("etc/runlevels/default/edgeagent")),
        ("etc/init.d/rcS", "etc/init.d/S90edgeagent", None),
    ];
    for (mark, script, link) in cases {
        let folder = Folder::new();
        let (image, install) = image(&folder, mark);
        let before = listing(&image);
        let (code, said) = install(&[]);
        assert_eq!(code, 0, "{said}");
        assert_eq!(fs::metadata(image.join(script)).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(link.is_none_or(|link| image.join(link).is_symlink()), "{said}");
        assert!(!image.join("usr/lib/systemd").exists());
        assert_eq!(install(&["--uninstall"]).0, 0);
        assert_eq!(listing(&image), before);
    }
}

#[test]
fn a_link_of_the_image_leads_nowhere_on_this_machine() {
    let folder = Folder::new();
    let (image, install) = image(&folder, "etc/init.d/rcS");
    let outside = folder.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(image.join("usr")).unwrap();
    symlink(&outside, image.join("usr/bin")).unwrap();
    let (code, said) = install(&[]);
    assert!(code == 1 && said.contains("is a link that may lead out of"), "{said}");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn wrong_words_and_files_change_nothing() {
    let folder = Folder::new();
    let (image, install) = image(&folder, "etc/init.d/rcS");
    fs::write(folder.path("no-token"), "hello\n").unwrap();
    fs::write(folder.path("two"), format!("{TOKEN}\n\"{TOKEN}\n")).unwrap();
    let before = listing(&image);
    for (words, code, text) in [
        (&["--token-file", "token"][..], 2, "wants the address"),
        (&["10.0.0.1"], 2, "wants --token-file"),
        (&["--token-file", "token", "a\", \"b"], 2, "is no address"),
        (&["--token-file", "no-token", "10.0.0.1"], 1, "holds no join token"),
        (&["--token-file", "two", "10.0.0.1"], 1, "is not one line"),
        (&["--token-file", "absent", "10.0.0.1"], 1, "can not be read"),
        (&["--uninstall", "10.0.0.1"], 2, "takes neither"),
        (&["--force"], 2, "is no option"),
        (&["--token-file"], 2, "wants a value"),
    ] {
        let (got, said) = install(words);
        assert!(got == code && said.contains(text), "{words:?}: {got} {said}");
    }
    assert_eq!(listing(&image), before);
    let installer = unpacked(&folder);
    fs::write(installer.join("edgeagent"), "damaged").unwrap();
    let (code, said) = install(&[]);
    assert!(code == 1 && said.contains("unpack the tarball again"), "{said}");
    assert_eq!(listing(&image), before);
}

#[test]
fn a_token_comes_through_a_pipe() {
    let folder = Folder::new();
    let (image, _) = image(&folder, "etc/init.d/rcS");
    let installer = folder.path("edgeagent-0.1.0-aarch64").join("install.sh");
    let script = "sh \"$0\" --root image --token-file - 10.0.0.1 <token";
    let mut command = Command::new("sh");
    command.current_dir(&folder.0).args(["-c", script]).arg(installer);
    done(command.stdin(Stdio::null()));
    assert!(fs::read_to_string(image.join("etc/edgeagent/join.json")).unwrap().contains(TOKEN));
}

#[test]
fn what_is_linked_comes_with_its_licence() {
    let folder = Folder::new();
    let extra = format!("a C library={}", root().join("targets/tarball/agent.json").display());
    let mut licences = Command::new(root().join("targets/licences"));
    let said = done(licences.args(["aarch64-unknown-linux-musl", &extra]));
    for word in ["\nrustls  ", "\nring  ", "\na C library\n", "BoringSSL", "insecure-registries"] {
        assert!(said.contains(word), "{word:?} is missing");
    }
    assert!(!said.contains("\nargh_derive "), "a macro is not linked");
    let mut licences = Command::new(root().join("targets/licences"));
    licences.args(["aarch64-unknown-linux-musl", "a C library=/nowhere"]);
    let (code, said) = run(licences.current_dir(&folder.0));
    assert!(code == 1 && said.contains("licences: the licence of a C library"), "{said}");
}

#[test]
fn a_mistyped_target_or_method_is_one_clear_line() {
    let build = || Command::new(root().join("targets/build"));
    let (code, said) = run(build().arg("arm64"));
    assert_eq!(code, 1);
    assert_eq!(
        said,
        "dist: \"arm64\" is no target. There are: aarch64 armv6 armv7 riscv64 x86_64\n"
    );
    let (code, said) = run(build().arg("aarch64").env("DIST_METHOD", "make"));
    assert_eq!(code, 1);
    assert_eq!(said, "dist: DIST_METHOD is rustup, cross or zig, not \"make\".\n");
}
