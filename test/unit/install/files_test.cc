// The files of an installation, by the system that is installed.

#include <catch2/catch.hpp>

#include <fstream>

#include "config/config.h"
#include "install/install.h"
#include "install/texts.h"

using namespace vmhost;
using namespace vmhost::install;
using config::InstallSystem;

namespace {

struct Sample {
    config::Model model;
    std::map<std::string, std::string> disk;
    explicit Sample(InstallSystem system, const std::string& more = {}) {
        auto parsed = config::parse("[host]\ndomain = \"example.org\"\n[switch.lan]\n"
                                    "ipv4 = \"192.0.2.1/24\"\nipv6 = \"2001:db8::1/64\"\n"
                                    "dhcp = { domain_name_servers = [\"192.0.2.53\"] }\n"
                                    "[vm.puffy]\ninterface = [{ switch = \"lan\", "
                                    "ipv4 = \"192.0.2.13\", ipv6 = \"2001:db8::d\", "
                                    "lladdr = \"fe:e1:bb:d1:00:01\" }]\n[vm.puffy.install]\n"
                                    "user = \"alice\"\nsshkey = \"ssh-ed25519 AAAA alice@home\"\n" +
                                        more,
                                    "vmhost.toml");
        REQUIRE(parsed);
        model = std::move(*parsed);
        install().system = system;
    }
    config::Vm& vm() { return model.vms.at(0); }
    config::VmInstall& install() { return *vm().install; }
    Result<std::string> result(std::string_view name) {
        return file_text(model, vm(), false, 7, name, [&](const std::string& path) {
            auto found = disk.find(path);
            return found != disk.end() ? Result<std::string>(found->second)
                                       : fail(ErrorKind::not_found, "{}: not there", path);
        });
    }
    std::string text(std::string_view name) {
        auto out = result(name);
        return out ? *out : "refused: " + out.error().message();
    }
    std::string names(bool upgrade = false) {
        std::string out;
        for (const auto& file : install_files(vm(), upgrade))
            out += (out.empty() ? "" : " ") + file.name +
                   (file.use == FileUse::once      ? " once"
                    : file.use == FileUse::running ? " running"
                                                   : "") +
                   (file.afterwards.empty() ? "" : "+");
        return out;
    }
};

bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

} // namespace

TEST_CASE("each system has its files, and one of them holds the secrets") {
    CHECK(Sample(InstallSystem::openbsd).names() == "install.conf once");
    CHECK(Sample(InstallSystem::openbsd).names(true) == "upgrade.conf once");
    Sample parted(InstallSystem::openbsd);
    parted.install().disklabel = "/d";
    CHECK(parted.names() == "install.conf once disklabel");
    CHECK(Sample(InstallSystem::cloud_init).names() ==
          "user-data once meta-data vendor-data network-config");
    CHECK(Sample(InstallSystem::preseed).names() == "preseed.cfg once");
    CHECK(Sample(InstallSystem::kickstart).names() == "ks.cfg once");
    CHECK(Sample(InstallSystem::ipxe).names() == "boot.ipxe once+");
    Sample sample(InstallSystem::ipxe);
    CHECK(find_file(sample.vm(), false, "boot.ipxe")->afterwards == "#!ipxe\nexit\n");
    CHECK_FALSE(find_file(sample.vm(), false, "user-data"));
    CHECK(has(sample.text("user-data"), "its installation has no user-data"));
}

TEST_CASE("cloud-init: seed") {
    Sample sample(InstallSystem::cloud_init);
    CHECK(sample.text("meta-data") ==
          "instance-id: \"puffy-7\"\nlocal-hostname: \"puffy.example.org\"\n");
    CHECK(sample.text("vendor-data").empty());
    CHECK(sample.text("network-config") ==
          "version: 2\nethernets:\n  nic0:\n    match: {macaddress: \"fe:e1:bb:d1:00:01\"}\n"
          "    dhcp4: true\n    addresses: [\"2001:db8::d/64\"]\n"
          "    routes: [{to: \"::/0\", via: \"2001:db8::1\"}]\n");
    sample.model.switches.at(0).dhcp.enabled = false;
    CHECK(sample.text("network-config") ==
          "version: 2\nethernets:\n  nic0:\n    match: {macaddress: \"fe:e1:bb:d1:00:01\"}\n"
          "    dhcp4: false\n    addresses: [\"192.0.2.13/24\", \"2001:db8::d/64\"]\n"
          "    nameservers: {addresses: [\"192.0.2.53\"]}\n"
          "    routes: [{to: \"0.0.0.0/0\", via: \"192.0.2.1\"}, "
          "{to: \"::/0\", via: \"2001:db8::1\"}]\n");
    CHECK(sample.text("user-data") ==
          "#cloud-config\nhostname: \"puffy\"\nfqdn: \"puffy.example.org\"\n"
          "manage_etc_hosts: localhost\ntimezone: \"UTC\"\nmanual_cache_clean: true\n"
          "disable_root: true\nssh_pwauth: false\nusers:\n  - name: \"alice\"\n"
          "    shell: /bin/bash\n    lock_passwd: true\n"
          "    sudo: \"ALL=(ALL) NOPASSWD:ALL\"\n"
          "    ssh_authorized_keys: [\"ssh-ed25519 AAAA alice@home\"]\n");
    sample.install().user.clear();
    sample.install().sshkey = "ssh-ed25519 AAAA \"quoted\"\\";
    CHECK(
        has(sample.text("user-data"),
            "users: [default]\nssh_authorized_keys: [\"ssh-ed25519 AAAA \\\"quoted\\\"\\\\\"]\n"));
}

TEST_CASE("cloud-init: a host key that was made here") {
    Sample sample(InstallSystem::cloud_init);
    auto none = [](const std::string&) -> Result<std::string> {
        return fail(ErrorKind::not_found, "none");
    };
    auto text = file_text(sample.model, sample.vm(), false, 1, "user-data", none,
                          {{"host_key", "-----BEGIN\nAAAA\n-----END\n"},
                           {"host_key_public", "ssh-ed25519 BBBB root@puffy"}});
    REQUIRE(text);
    CHECK(has(*text, "ssh_keys:\n  ed25519_private: \"-----BEGIN\\nAAAA\\n-----END\\n\"\n"
                     "  ed25519_public: \"ssh-ed25519 BBBB root@puffy\"\n"));
}

TEST_CASE("a plain password is hashed, and a hash stays") {
    CHECK(hash_of_password("")->empty());
    CHECK(hash_of_password(no_password)->empty());
    const std::string bcrypt = "$2b$10$aaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    CHECK(hash_of_password(bcrypt) == bcrypt);
    auto hash = hash_of_password("secret").value();
    CHECK(hash.starts_with("$6$"));
    CHECK(hash.size() > 90);
    CHECK(hash != hash_of_password("secret").value());
    CHECK(hash_of_password(hash) == hash);
    CHECK(hash_of_password("$6$; rm -rf / ;aaaaaaaaaaaaaaaaaaaaaaaaaaa")->starts_with("$6$"));
    CHECK_FALSE(has(*hash_of_password("$6$; rm -rf / ;aaaaaaaaaaaaaaaaaaaaaaaaaaa"), ";"));

    Sample sample(InstallSystem::cloud_init, "password = \"secret\"\nroot_password = \"top\"\n");
    auto text = sample.text("user-data");
    CHECK(has(text, "    lock_passwd: false\n    passwd: \"$6$"));
    CHECK(has(text, "    sudo: \"ALL=(ALL) ALL\"\n"));
    CHECK(has(text, "chpasswd:\n  expire: false\n  users: [{name: root, password: \"$6$"));
    CHECK_FALSE(has(text, "secret"));
    sample.vm() = without_secrets(sample.vm());
    CHECK(has(sample.text("user-data"), "passwd: \"$masked\""));
    CHECK_FALSE(has(sample.text("user-data"), "$6$"));
}

TEST_CASE("without secrets nothing of them is left, in the answers of any system") {
    for (auto system : {InstallSystem::openbsd, InstallSystem::cloud_init, InstallSystem::preseed,
                        InstallSystem::kickstart}) {
        Sample sample(system, "password = \"one4secret\"\nroot_password = \"another1\"\n");
        sample.install().sshkey += " one4secret"; // as vmhost deploy writes it
        const auto name = install_files(sample.vm(), false).front().name;
        INFO(name);
        CHECK(has(sample.text(name), "alice@home one4secret"));
        sample.vm() = without_secrets(sample.vm());
        const auto text = sample.text(name);
        CHECK(has(text, "AAAA alice@home masked"));
        for (auto secret : {"one4secret", "another1", "$6$", "refused"})
            CHECK_FALSE(has(text, secret));
    }
}

TEST_CASE("what everybody may read has no variables of secrets, and costs no hashes") {
    Sample sample(InstallSystem::cloud_init, "password = \"one4secret\"\n");
    CHECK_FALSE(plain_values(sample.model, sample.vm(), 1).contains("password"));
    CHECK_FALSE(plain_values(sample.model, sample.vm(), 1).contains("password_hash"));
    auto all = all_values(sample.model, sample.vm(), 1, {{"password_hash", "given"}});
    REQUIRE(all);
    CHECK(all->at("password_hash") == "given");
    CHECK(all->at("password") == "one4secret");
    CHECK(all->at("host_key").empty());
}

TEST_CASE("preseed and kickstart") {
    Sample sample(InstallSystem::preseed);
    auto text = sample.text("preseed.cfg");
    CHECK(has(text, "d-i netcfg/get_hostname string puffy\n"));
    CHECK(has(text, "d-i netcfg/get_domain string example.org\n"));
    CHECK(has(text, "d-i passwd/root-login boolean false\n"));
    CHECK(has(text, "d-i passwd/username string alice\n"));
    CHECK(has(text, "d-i passwd/user-password-crypted password !\n"));
    CHECK(has(text, " echo \"ssh-ed25519 AAAA alice@home\" > "
                    "/target/home/alice/.ssh/authorized_keys; \\\n"));
    CHECK_FALSE(has(text, "${"));
    sample.install().user.clear();
    text = sample.text("preseed.cfg");
    CHECK(has(text, "d-i passwd/make-user boolean false\n"));
    CHECK(has(text, "d-i passwd/root-password-crypted password !\n"));
    CHECK(has(text, "/target/root/.ssh/authorized_keys"));
    sample.install().sshkey = "ssh-ed25519 AAAA \"; reboot; \"";
    CHECK(has(sample.text("preseed.cfg"), "refused: the built-in preseed.cfg:"));

    Sample fedora(InstallSystem::kickstart, "password = \"secret\"\n");
    text = fedora.text("ks.cfg");
    CHECK(has(text, "rootpw --lock\nuser --name=alice --groups=wheel --iscrypted --password=$6$"));
    CHECK(has(text, "sshkey --username=alice \"ssh-ed25519 AAAA alice@home\"\n"));
    CHECK_FALSE(has(text, "%post"));
    fedora.install().password = std::string(no_password);
    CHECK(has(fedora.text("ks.cfg"), "user --name=alice --groups=wheel --lock\n"));
    CHECK(has(fedora.text("ks.cfg"), "%post\necho \"alice ALL=(ALL) NOPASSWD:ALL\" > "));
}

TEST_CASE("files of the operator take the place of ours") {
    Sample sample(InstallSystem::ipxe);
    CHECK(has(sample.text("boot.ipxe"), "give a \"template\""));
    sample.install().template_file = "boot.txt";
    CHECK(has(sample.text("boot.ipxe"), "boot.txt: not there"));
    sample.disk["boot.txt"] = "#!ipxe\nkernel ${server}/k ip=$${net0/ip} mac=${mac} gw=${router} "
                              "ip=${ipv4}/${ipv4_prefix}/${netmask} dns=${dns} six=${ipv6}\nboot\n";
    CHECK(sample.text("boot.ipxe") ==
          "#!ipxe\nkernel http://192.0.2.1/k ip=${net0/ip} mac=fe:e1:bb:d1:00:01 gw=192.0.2.1 "
          "ip=192.0.2.13/24/255.255.255.0 dns=192.0.2.53 six=2001:db8::d\nboot\n");
    sample.disk["boot.txt"] = "#!ipxe\n${nothing}\n";
    CHECK(
        has(sample.text("boot.ipxe"), "refused: boot.txt:2:1: vm \"puffy\": there is no variable"));
    sample.install().template_file.clear();
    sample.install().file = "ready";
    sample.disk["ready"] = "#!ipxe\n${as} it is\n";
    CHECK(sample.text("boot.ipxe") == sample.disk["ready"]);

    Sample openbsd(InstallSystem::openbsd);
    openbsd.install().disklabel = "/etc/parts";
    openbsd.disk["/etc/parts"] = "/ 1g\n";
    CHECK(openbsd.text("disklabel") == "/ 1g\n");
    auto text = openbsd.text("install.conf");
    CHECK(
        has(text, "URL to autopartitioning template for disklabel = http://192.0.2.1/disklabel\n"));
    CHECK(lint_answers(text).empty());
    openbsd.install().template_file = "t";
    openbsd.disk["t"] = "System hostname = ${fqdn}\nPublic ssh key for user = ${sshkey}\n";
    CHECK(openbsd.text("install.conf") ==
          "System hostname = puffy.example.org\n"
          "Public ssh key for user = ssh-ed25519 AAAA alice@home\n");
}

TEST_CASE("the examples of templates are good") {
    struct Example {
        InstallSystem system;
        const char* file;
        std::string_view built_in; // what they are to be, but for its comments; empty: another
    };
    for (const auto& [system, file, built_in] :
         {Example{InstallSystem::ipxe, "boot.ipxe", ""},
          {InstallSystem::cloud_init, "user-data", ""},
          {InstallSystem::preseed, "preseed.cfg", preseed_text},
          {InstallSystem::kickstart, "ks.cfg", kickstart_text}}) {
        std::ifstream in(std::string(VMHOST_SOURCE_ROOT) + "/conf/templates/" + file);
        REQUIRE(in);
        std::string text, without_comments, line;
        while (std::getline(in, line)) {
            text += line + "\n";
            if (!line.starts_with("# "))
                without_comments += line + "\n";
        }
        Sample sample(system);
        sample.install().template_file = "t";
        sample.disk["t"] = text;
        const auto out = sample.text(file);
        INFO(out);
        CHECK_FALSE(out.starts_with("refused"));
        CHECK(has(out, "puffy"));
        CHECK(has(out, "example.org"));
        if (!built_in.empty())
            CHECK(without_comments == built_in);
    }
}
