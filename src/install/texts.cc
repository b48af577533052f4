#include "install/texts.h"

namespace vmhost::install {

const std::string_view meta_data_text = R"text(instance-id: "${instance_id}"
local-hostname: "${fqdn}"
)text";

// manual_cache_clean: cloud-init of before 24.1 would otherwise look for its seed at every start,
// as one that came over the network is of no use before there is a network (main_init() in its
// cmd/main.py, check_instance_id() in DataSourceNoCloud.py). It would find user-data sealed, take
// itself for another machine and make new host keys.
const std::string_view user_data_text = R"text(#cloud-config
hostname: "${hostname}"
fqdn: "${fqdn}"
manage_etc_hosts: localhost
timezone: "${timezone}"
manual_cache_clean: true
disable_root: true
ssh_pwauth: false
${!user}users: [default]
${!user}${?sshkey}ssh_authorized_keys: ["${sshkey}"]
${?user}users:
${?user}  - name: "${user}"
${?user}    shell: /bin/bash
${?user}${!password_hash}    lock_passwd: true
${?user}${!password_hash}    sudo: "ALL=(ALL) NOPASSWD:ALL"
${?user}${?password_hash}    lock_passwd: false
${?user}${?password_hash}    passwd: "${password_hash}"
${?user}${?password_hash}    sudo: "ALL=(ALL) ALL"
${?user}${?sshkey}    ssh_authorized_keys: ["${sshkey}"]
${?root_password_hash}chpasswd:
${?root_password_hash}  expire: false
${?root_password_hash}  users: [{name: root, password: "${root_password_hash}"}]
${?host_key}ssh_keys:
${?host_key}  ed25519_private: "${host_key}"
${?host_key}  ed25519_public: "${host_key_public}"
)text";

const std::string_view preseed_text = R"text(#_preseed_V1
d-i debian-installer/locale string en_US.UTF-8
d-i keyboard-configuration/xkb-keymap select us
d-i netcfg/choose_interface select auto
d-i netcfg/hostname string ${hostname}
d-i netcfg/get_hostname string ${hostname}
d-i netcfg/get_domain string ${domain}
d-i mirror/country string manual
d-i mirror/http/hostname string deb.debian.org
d-i mirror/http/directory string /debian
d-i mirror/http/proxy string
${?root_password_hash}d-i passwd/root-login boolean true
${?root_password_hash}d-i passwd/root-password-crypted password ${root_password_hash}
${!root_password_hash}${?user}d-i passwd/root-login boolean false
${!root_password_hash}${!user}d-i passwd/root-login boolean true
${!root_password_hash}${!user}d-i passwd/root-password-crypted password !
${!user}d-i passwd/make-user boolean false
${?user}d-i passwd/make-user boolean true
${?user}d-i passwd/user-fullname string ${user}
${?user}d-i passwd/username string ${user}
${?user}${?password_hash}d-i passwd/user-password-crypted password ${password_hash}
${?user}${!password_hash}d-i passwd/user-password-crypted password !
d-i clock-setup/utc boolean true
d-i clock-setup/ntp boolean true
d-i time/zone string ${timezone}
d-i partman/early_command string debconf-set partman-auto/disk "$(list-devices disk | head -n 1)"
d-i partman-auto/method string regular
d-i partman-auto/choose_recipe select atomic
d-i partman-partitioning/confirm_write_new_label boolean true
d-i partman/choose_partition select finish
d-i partman/confirm boolean true
d-i partman/confirm_nooverwrite boolean true
d-i partman-lvm/device_remove_lvm boolean true
d-i partman-md/device_remove_md boolean true
d-i apt-setup/cdrom/set-first boolean false
tasksel tasksel/first multiselect standard, ssh-server
d-i pkgsel/include string openssh-server sudo
d-i pkgsel/upgrade select full-upgrade
popularity-contest popularity-contest/participate boolean false
d-i grub-installer/only_debian boolean true
d-i grub-installer/with_other_os boolean true
d-i grub-installer/bootdev string default
d-i debian-installer/add-kernel-opts string console=ttyS0,115200n8
d-i preseed/late_command string set -e; \
${?user}${?sshkey} mkdir -p -m 700 /target/home/${user}/.ssh; \
${?user}${?sshkey} echo "${sshkey}" > /target/home/${user}/.ssh/authorized_keys; \
${?user}${?sshkey} in-target chown -R ${user}:${user} /home/${user}/.ssh; \
${?user}${!password_hash} echo "${user} ALL=(ALL) NOPASSWD:ALL" > /target/etc/sudoers.d/${user}; \
${!user}${?sshkey} mkdir -p -m 700 /target/root/.ssh; \
${!user}${?sshkey} echo "${sshkey}" > /target/root/.ssh/authorized_keys; \
 true
d-i finish-install/reboot_in_progress note
)text";

// The first disk alone: another one may have been given to it for what is to stay.
const std::string_view kickstart_text = R"text(text
reboot
lang en_US.UTF-8
keyboard us
timezone ${timezone} --utc
network --bootproto=dhcp --device=link --activate --hostname=${fqdn}
${?root_password_hash}rootpw --iscrypted ${root_password_hash}
${!root_password_hash}rootpw --lock
${?user}${?password_hash}user --name=${user} --groups=wheel --iscrypted --password=${password_hash}
${?user}${!password_hash}user --name=${user} --groups=wheel --lock
${?user}${?sshkey}sshkey --username=${user} "${sshkey}"
${!user}${?sshkey}sshkey --username=root "${sshkey}"
firewall --enabled --ssh
services --enabled=sshd
bootloader --append="console=ttyS0,115200n8"
ignoredisk --only-use=vda
zerombr
clearpart --all --initlabel
autopart
%packages
@core
openssh-server
%end
${?user}${!password_hash}%post
${?user}${!password_hash}echo "${user} ALL=(ALL) NOPASSWD:ALL" > /etc/sudoers.d/${user}
${?user}${!password_hash}chmod 440 /etc/sudoers.d/${user}
${?user}${!password_hash}%end
)text";

} // namespace vmhost::install
