################################################################################
#
# edgeagent
#
################################################################################

EDGEAGENT_VERSION = 0.1.0
EDGEAGENT_SITE = https://example.invalid/edgeagent/releases
EDGEAGENT_LICENSE = Apache-2.0 or MIT
EDGEAGENT_LICENSE_FILES = LICENSE THIRD-PARTY.txt

# The binary is static, so it runs with any C library.
ifeq ($(BR2_aarch64),y)
EDGEAGENT_TARGET = aarch64
else ifeq ($(BR2_ARM_CPU_ARMV7A)$(BR2_ARM_CPU_ARMV8A),y)
EDGEAGENT_TARGET = armv7
else ifeq ($(BR2_arm),y)
EDGEAGENT_TARGET = armv6
else ifeq ($(BR2_riscv),y)
EDGEAGENT_TARGET = riscv64
else
EDGEAGENT_TARGET = x86_64
endif
EDGEAGENT_SOURCE = edgeagent-$(EDGEAGENT_VERSION)-$(EDGEAGENT_TARGET).tar.gz

define EDGEAGENT_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/edgeagent $(TARGET_DIR)/usr/bin/edgeagent
endef
define EDGEAGENT_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(@D)/init/S90edgeagent $(TARGET_DIR)/etc/init.d/S90edgeagent
endef
define EDGEAGENT_INSTALL_INIT_OPENRC
	$(INSTALL) -D -m 0755 $(@D)/init/edgeagent.openrc $(TARGET_DIR)/etc/init.d/edgeagent
endef
define EDGEAGENT_INSTALL_INIT_SYSTEMD
	for unit in edgeagent.service edgeagent-join.path edgeagent-join.service; do \
		$(INSTALL) -D -m 0644 $(@D)/systemd/$$unit $(TARGET_DIR)/usr/lib/systemd/system/$$unit || exit 1; \
	done
endef
define EDGEAGENT_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_NAMESPACES)
	$(call KCONFIG_ENABLE_OPT,CONFIG_CGROUPS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_MEMCG)
	$(call KCONFIG_ENABLE_OPT,CONFIG_CGROUP_PIDS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_CGROUP_DEVICE)
	$(call KCONFIG_ENABLE_OPT,CONFIG_CGROUP_BPF)
	$(call KCONFIG_ENABLE_OPT,CONFIG_SECCOMP_FILTER)
	$(call KCONFIG_ENABLE_OPT,CONFIG_OVERLAY_FS)
endef

$(eval $(generic-package))
