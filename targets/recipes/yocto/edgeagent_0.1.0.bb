SUMMARY = "Docker Swarm worker in one small static binary"
HOMEPAGE = "https://example.invalid/edgeagent"
LICENSE = "Apache-2.0 | MIT"
LIC_FILES_CHKSUM = "file://LICENSE;md5=d2f78ecc3e47c14de9fb1528eb76ccaf"

# The release tarball of the machine's architecture; its sum is in SHA256SUMS of the release:
#   SRC_URI[aarch64.sha256sum] = "…" in a .bbappend or here.
EDGEAGENT_TARGET:aarch64 = "aarch64"
EDGEAGENT_TARGET:armv7a = "armv7"
EDGEAGENT_TARGET:armv7ve = "armv7"
EDGEAGENT_TARGET:armv6 = "armv6"
EDGEAGENT_TARGET:riscv64 = "riscv64"
EDGEAGENT_TARGET:x86-64 = "x86_64"
COMPATIBLE_HOST = "(aarch64|arm|riscv64|x86_64).*-linux"
SRC_URI = "${HOMEPAGE}/releases/edgeagent-${PV}-${EDGEAGENT_TARGET}.tar.gz;name=${EDGEAGENT_TARGET}"
# Releases before 5.1 have no UNPACKDIR and unpack into WORKDIR.
UNPACKDIR ??= "${WORKDIR}"
S = "${UNPACKDIR}/edgeagent-${PV}-${EDGEAGENT_TARGET}"

inherit systemd update-rc.d

INITSCRIPT_NAME = "edgeagent"
INITSCRIPT_PARAMS = "defaults 90"
SYSTEMD_SERVICE:${PN} = "edgeagent.service edgeagent-join.path"
# Static and stripped already.
INSANE_SKIP:${PN} += "already-stripped"
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_SYSROOT_STRIP = "1"
RRECOMMENDS:${PN} = "kernel-module-overlay kernel-module-veth kernel-module-bridge kernel-module-nf-tables kernel-module-vxlan"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${bindir} ${D}${systemd_system_unitdir} ${D}${docdir}/${BPN}
    install -m 0755 ${S}/edgeagent ${D}${bindir}/edgeagent
    if ${@bb.utils.contains('DISTRO_FEATURES', 'systemd', 'true', 'false', d)}; then
        install -m 0644 ${S}/systemd/* ${D}${systemd_system_unitdir}
    fi
    if ${@bb.utils.contains('DISTRO_FEATURES', 'sysvinit', 'true', 'false', d)}; then
        install -D -m 0755 ${S}/init/S90edgeagent ${D}${sysconfdir}/init.d/edgeagent
    fi
    install -m 0644 ${S}/LICENSE ${S}/THIRD-PARTY.txt ${S}/sbom.cdx.json ${S}/agent.json ${D}${docdir}/${BPN}
}

FILES:${PN} += "${systemd_system_unitdir}"
