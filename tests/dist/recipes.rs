//! The recipes of distributions, run on a tarball as far as that goes without the distributions.

use std::{fs, process::Command};

use super::{Folder, done, root, tarball::unpacked};

#[test]
fn alpine_packages_the_tarball() {
    let folder = Folder::new();
    let source = unpacked(&folder);
    let script = "set -eu; CARCH=aarch64 srcdir=$1 pkgdir=$1/image; . \"$2\"; \
                  echo \"$source\"; cd \"$builddir\"; package";
    let mut sh = Command::new("sh");
    sh.args(["-c", script, "sh"]).arg(&folder.0);
    let said = done(sh.arg(root().join("targets/recipes/alpine/APKBUILD")));
    let name = source.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(&format!("/{name}.tar.gz")), "{said}");
    for file in [
        "usr/bin/edgeagent",
        "etc/init.d/edgeagent",
        "usr/share/doc/edgeagent/LICENSE",
        "usr/share/doc/edgeagent/THIRD-PARTY.txt",
    ] {
        assert!(folder.path("image").join(file).is_file(), "{file}");
    }
}

#[test]
fn buildroot_installs_the_tarball_for_each_init_system() {
    let folder = Folder::new();
    let source = unpacked(&folder);
    let recipe = root().join("targets/recipes/buildroot/edgeagent/edgeagent.mk");
    // What Buildroot gives to a package, and nothing else of it.
    let rules = format!(
        "INSTALL = install\nTARGET_DIR = {image}\nBR2_aarch64 = y\ninclude {recipe}\n\
         {source}/done:\n\
         \t$(info $(EDGEAGENT_SOURCE))\n\
         \t$(EDGEAGENT_INSTALL_TARGET_CMDS)\n\
         \t$(EDGEAGENT_INSTALL_INIT_SYSV)\n\
         \t$(EDGEAGENT_INSTALL_INIT_OPENRC)\n\
         \t$(EDGEAGENT_INSTALL_INIT_SYSTEMD)\n",
        image = folder.path("image").display(),
        recipe = recipe.display(),
        source = source.display(),
    );
    fs::write(folder.path("rules"), rules).unwrap();
    let said = done(Command::new("make").arg("-f").arg(folder.path("rules")));
    let name = source.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(&format!("{name}.tar.gz")), "{said}");
    for file in [
        "usr/bin/edgeagent",
        "etc/init.d/S90edgeagent",
        "etc/init.d/edgeagent",
        "usr/lib/systemd/system/edgeagent.service",
        "usr/lib/systemd/system/edgeagent-join.path",
    ] {
        assert!(folder.path("image").join(file).is_file(), "{file}");
    }
}

#[test]
fn yocto_names_files_of_the_tarball_and_its_licence() {
    let folder = Folder::new();
    let source = unpacked(&folder);
    let recipe = root().join("targets/recipes/yocto/edgeagent_0.1.0.bb");
    let recipe = fs::read_to_string(recipe).unwrap();
    let sum = done(Command::new("md5sum").arg(source.join("LICENSE")));
    let sum = sum.split(' ').next().unwrap();
    assert!(recipe.contains(&format!("file://LICENSE;md5={sum}\"")), "{sum}");
    let mut named = 0;
    for rest in recipe.split("${S}/").skip(1) {
        let file = rest.split([' ', '*', '\n']).next().unwrap();
        assert!(source.join(file).exists(), "{file}");
        named += 1;
    }
    assert!(named > 4, "{named}");
}
