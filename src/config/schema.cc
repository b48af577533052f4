// The rows of the schema. Whoever adds a member to the model adds its row here and its
// paragraph to vmhost.toml(5); the tests compare the three.
#include "config/rows.h"

namespace vmhost::config {

namespace {

constexpr Word accel_words[] = {{"auto", static_cast<int>(Accel::automatic)},
                                {"kvm", static_cast<int>(Accel::kvm)},
                                {"soft", static_cast<int>(Accel::soft)}};
constexpr Word cpu_words[] = {{"host", static_cast<int>(Cpu::host)},
                              {"baseline", static_cast<int>(Cpu::baseline)},
                              {"x86-64-v2", static_cast<int>(Cpu::v2)},
                              {"x86-64-v3", static_cast<int>(Cpu::v3)}};
constexpr Word restart_words[] = {{"never", static_cast<int>(Restart::never)},
                                  {"on-failure", static_cast<int>(Restart::on_failure)},
                                  {"always", static_cast<int>(Restart::always)}};
constexpr Word boot_device_words[] = {{"disk", static_cast<int>(BootDevice::disk)},
                                      {"cdrom", static_cast<int>(BootDevice::cdrom)},
                                      {"net", static_cast<int>(BootDevice::net)}};
constexpr Word install_mode_words[] = {{"install", static_cast<int>(InstallMode::install)},
                                       {"upgrade", static_cast<int>(InstallMode::upgrade)}};

constexpr Word install_system_words[] = {
    {"openbsd", static_cast<int>(InstallSystem::openbsd)},
    {"cloud-init", static_cast<int>(InstallSystem::cloud_init)},
    {"preseed", static_cast<int>(InstallSystem::preseed)},
    {"kickstart", static_cast<int>(InstallSystem::kickstart)},
    {"ipxe", static_cast<int>(InstallSystem::ipxe)}};
constexpr Word virtio_words[] = {{"modern", static_cast<int>(VirtioFlavour::modern)},
                                 {"transitional", static_cast<int>(VirtioFlavour::transitional)}};

constexpr TextRule local_prefix_rule{"IPv4 prefix", "an IPv4 prefix such as \"100.64.0.0/10\"",
                                     nullptr};
using LocalPrefix = Parsed<parse_local_prefix, text_of<Ipv4Prefix>, local_prefix_rule>;
using Acceleration = Choice<accel_words>;

// [host]

// A pause, or "boot".
struct StartDelay : Duration<0, 1> {
    static std::string type() { return "duration or \"boot\""; }
    static void read(const Spot& spot, std::chrono::milliseconds& out) {
        if (spot.node.is_string() && *spot.node.value<std::string_view>() == "boot") {
            spot.note(&out);
            out = until_answer;
        } else {
            Duration::read(spot, out);
        }
    }
    static Json write(std::chrono::milliseconds value) {
        return value == until_answer ? Json("boot") : Duration::write(value);
    }
};

constexpr Row start_rows[] = {
    row<&Host::start_parallel, Count<0, limits::max_vms>>(
        "parallel", "", "VMs that are started at once; 0 is the number of CPUs"),
    row<&Host::start_delay, StartDelay>(
        "delay", "", "pause between two such groups; \"boot\": until the last ones have answered"),
};
constexpr Section start_section = section<Host>("host.start", start_rows);

constexpr TextRule local_ipv6_rule{"IPv6 prefix", "an IPv6 prefix such as \"fd00:1:2:3::/64\"",
                                   nullptr};
// Whether, or from where.
struct LocalIpv6Setting : Parsed<parse_local_ipv6, text_of<Ipv6Prefix>, local_ipv6_rule> {
    static std::string type() { return "boolean or IPv6 prefix"; }
    static void read(const Spot& spot, LocalIpv6& out) {
        spot.note(&out);
        if (spot.node.is_boolean())
            return Flag::read(spot, out.enabled);
        if (!spot.node.is_string())
            return spot.expected("true, false or an IPv6 prefix");
        out.enabled = true;
        Parsed::read(spot, out.prefix);
    }
    static Json write(const LocalIpv6& value) {
        return value.enabled ? Json(value.prefix.text()) : Json(false);
    }
};
constexpr Row local_rows[] = {
    row<&Host::local_ipv4, LocalPrefix>("ipv4", "", "where their addresses are taken from"),
    row<&Host::local_ipv6, LocalIpv6Setting>("ipv6", "false", "whether they have IPv6, and whence"),
    row<&Host::local_nat, Flag>("nat", "", "let them reach beyond this host, with its address"),
};
constexpr Section local_section = section<Host>("host.local", local_rows);

constexpr Row host_rows[] = {
    row<&Host::name, Text<host_name_rule>>(
        "name", "the host's name up to the first dot",
        "name of this host; derived Ethernet addresses depend on it"),
    row<&Host::domain, Text<domain_rule>>("domain", "", "domain of this host and its guests"),
    row<&Host::state, Text<absolute_path_rule>>(
        "state", "", "directory of what survives a restart; relative image paths start here"),
    group<start_section>("start", "staggered start of the VMs"),
    group<local_section>("local", "addresses of local interfaces"),
    row<&Host::accel, Choice<accel_words>>(
        "accel", "", "how guests run: by KVM, by the built-in CPU, or whichever is there"),
    row<&Host::user, Text<account_rule>>("user", "", "account of the unprivileged processes"),
    row<&Host::vm_uids, Count<1000, 4'294'900'000>>("vm_uids", "",
                                                    "VM with id N runs as the uid this + N"),
    row<&Host::stop_timeout, Duration<0, 1>>("stop_timeout", "",
                                             "how long all VMs have to end when the daemon ends"),
    row<&Host::answer_timeout, Duration<0, 1000>>(
        "answer_timeout", "", "how long a process may not answer; 0s is for ever"),
};
constexpr Section host_section = section<Host>("host", host_rows);

// [control]

constexpr Row control_rows[] = {
    row<&Control::socket, Text<socket_path_rule>>("socket", "", "the control socket"),
    row<&Control::owner, OwnerName>("owner", "", "who may connect to it, beside root"),
};
constexpr Section control_section = section<Control>("control", control_rows);

// [install]

constexpr Row location_rows[] = {
    row<&HttpLocation::path, Text<path_pattern_rule>>("path", "required",
                                                      "pattern of what is asked for"),
    row<&HttpLocation::host, Text<host_pattern_rule>>("host", "", "pattern of the server's name"),
    row<&HttpLocation::directory, Text<absolute_path_rule>>("directory", "required",
                                                            "where the files are"),
    row<&HttpLocation::strip, Count<0, limits::max_http_stripped>>(
        "strip", "", "components of the path that the directory lacks"),
    row<&HttpLocation::listing, Flag>("listing", "", "tell what is in a directory"),
};
constexpr Section location_section = section<HttpLocation>("install.location", location_rows);

constexpr Row install_rows[] = {
    row<&Install::listen, List<Listen, limits::max_listen_addresses>>(
        "listen", "port 80 of every switch address", "where the HTTP service listens"),
    row<&Install::release, Text<release_rule>>("release", "", "release that is installed"),
    row<&Install::mirror, Text<mirror_rule>>("mirror", "", "where the sets come from"),
    row<&Install::sets, OrNone<Text<absolute_path_rule>>>("sets", "none; they come from the mirror",
                                                          "where the sets are on this host"),
    row<&Install::signify_keys, Text<absolute_path_rule>>(
        "signify_keys", "", "whose signatures fetched sets must have"),
    row<&Install::locations, Tables<location_section, limits::max_http_locations>>(
        "location", "none", "directories that are served besides"),
    row<&Install::site, Table<site_section>>("site", "none",
                                             "what all guests get that install themselves"),
    row<&Install::access_log, OrNone<Text<absolute_path_rule>>>("access_log", "none",
                                                                "where requests are written down"),
    row<&Install::sshfp_command, OrNone<Text<absolute_path_rule>>>(
        "sshfp_command", "none", "what publishes the fingerprints of guests' host keys"),
};
constexpr Section install_section = section<Install>("install", install_rows);

// [tftp]

constexpr Row tftp_rows[] = {
    row<&Tftp::directory, OrNone<Text<absolute_path_rule>>>(
        "directory", "none; there is no service", "what is served"),
    row<&Tftp::listen, List<Address, limits::max_listen_addresses>>(
        "listen", "every switch address", "addresses of this host to serve at"),
};
constexpr Section tftp_section = section<Tftp>("tftp", tftp_rows);

// [metrics]

constexpr Row metrics_rows[] = {
    row<&Metrics::listen, List<Listen, limits::max_listen_addresses>>(
        "listen", "", "where /metrics is served; nowhere when there is none"),
};
constexpr Section metrics_section = section<Metrics>("metrics", metrics_rows);

// [vm.NAME]

using LimitBytes = Size<limits::min_limit_bytes, limits::max_limit_bytes>;
using LimitOperations = Count<1, limits::max_limit_operations>;
constexpr Row limit_rows[] = {
    row<&Limit::bytes, Optional<LimitBytes>>("bytes", "none", "bytes per second"),
    row<&Limit::operations, Optional<LimitOperations>>("operations", "none",
                                                       "operations per second"),
    row<&Limit::burst, Duration<0, 1, limits::max_limit_burst_ms>>(
        "burst", "", "how long the full rate is saved up while nothing is done"),
};
constexpr Section disk_limit_section = section<Limit>("vm.NAME.disk.limit", limit_rows);
constexpr Section interface_limit_section = section<Limit>("vm.NAME.interface.limit", limit_rows);

using Bases = OneOrMore<Text<path_rule>, limits::max_image_layers - 1>;
constexpr Row disk_rows[] = {
    row<&Disk::path, Text<path_rule>>("path", "required", "the image"),
    row<&Disk::format, Choice<format_words>>("format", "", "format of the image"),
    row<&Disk::size_bytes, Optional<DiskSize>>("size", "the image must exist",
                                               "size of the image when it has to be made"),
    row<&Disk::read_only, Flag>("read_only", "", "refuse writes of the guest"),
    row<&Disk::serial, Text<serial_rule>>("serial", "VM's name, cut to 17 bytes, and the index",
                                          "serial number that the guest sees"),
    row<&Disk::limit, Table<disk_limit_section>>("limit", "none", "what the guest may ask of it"),
    row<&Disk::base, Bases>("base", "none", "the files below a qcow2 image, nearest first"),
};
constexpr Section disk_section = section<Disk>("vm.NAME.disk", disk_rows);

// A switch in the file; the name of a derived one is not written.
struct SwitchName : Text<name_rule> {
    static Json write(const std::string& name) {
        return check_name(name) ? Json(name) : Json(nullptr);
    }
};

constexpr Row interface_rows[] = {
    row<&Interface::switch_name, SwitchName>("switch", "none",
                                             "the switch that it is plugged into"),
    row<&Interface::local, Flag>("local", "", "a network of its own with this host"),
    row<&Interface::tap, OrNone<Text<device_rule>>>("tap", "made of the VM's name and the index",
                                                    "name of the host's side"),
    row<&Interface::lladdr, Ethernet>("lladdr", "derived from host, VM and index",
                                      "Ethernet address of the guest"),
    row<&Interface::locked_lladdr, Optional<Flag>>("locked_lladdr", "as the switch has it",
                                                   "hold the guest to this address"),
    row<&Interface::isolated, Optional<Flag>>("isolated", "as the switch has it",
                                              "keep it from other isolated ones"),
    row<&Interface::vlan, Optional<Vlan>>("vlan", "as the switch has it",
                                          "VLAN of frames without a tag"),
    row<&Interface::trunk, Trunk>("trunk", "", "VLANs whose frames pass with their tags"),
    row<&Interface::guard, Optional<Flag>>("guard", "as the switch has it when locked",
                                           "drop what the guest says in the name of others"),
    row<&Interface::ipv4, Optional<Address>>("ipv4", "derived when the switch has ipv4",
                                             "address that the guest gets by DHCP"),
    row<&Interface::ipv6, Optional<Address6>>("ipv6", "derived when the switch has ipv6",
                                              "address that the guest gets by DHCPv6"),
    row<&Interface::up, Flag>("up", "", "whether the host's side is up"),
    row<&Interface::group, Group>("group", "", "group of the host's side"),
    row<&Interface::rdomain, Rdomain>("rdomain", "", "routing domain of the host's side"),
    row<&Interface::limit, Table<interface_limit_section>>("limit", "none",
                                                           "what passes in each direction"),
    row<&Interface::vhost, AutoFlag>("vhost", "", "let the kernel move the frames"),
};
constexpr Section interface_section = section<Interface>("vm.NAME.interface", interface_rows);

constexpr Row vm_install_rows[] = {
    row<&VmInstall::system, Choice<install_system_words>>("system", "",
                                                          "what asks for its answers, and how"),
    row<&VmInstall::mode, Choice<install_mode_words>>("mode", "", "what the installer is to do"),
    row<&VmInstall::kernel, Text<optional_path_rule>>(
        "kernel", "", "the installer's kernel, which the VM starts from while it is armed"),
    row<&VmInstall::initrd, Text<optional_path_rule>>("initrd", "",
                                                      "initial RAM disk of that kernel"),
    row<&VmInstall::command_line, Text<line_rule>>("command_line", "",
                                                   "command line of that kernel"),
    row<&VmInstall::stall_timeout, Duration<0, 1>>("stall_timeout", "",
                                                   "how long nothing may go on before it is told"),
    row<&VmInstall::hostname, Text<host_name_rule>>("hostname", "the VM's name",
                                                    "host name of the guest"),
    row<&VmInstall::user, Text<login_rule>>("user", "", "user to set up; empty is none"),
    row<&VmInstall::sshkey, Text<optional_answer_rule>>("sshkey", "", "public ssh key of the user"),
    row<&VmInstall::password, Text<password_rule>>("password", "13 asterisks: no login by password",
                                                   "password of the user, or its hash"),
    row<&VmInstall::root_password, Text<password_rule>>(
        "root_password", "13 asterisks: no login by password", "password of root, or its hash"),
    row<&VmInstall::timezone, Text<time_zone_rule>>("timezone", "", "time zone of the guest"),
    row<&VmInstall::sets, Text<answer_rule>>("sets", "", "answer to \"Set name(s)?\""),
    row<&VmInstall::answers, Answers>("answers", "none",
                                      "further answers, which come before all others"),
    row<&VmInstall::file, Text<optional_path_rule>>(
        "file", "", "a ready answer file, which replaces all of the above"),
    row<&VmInstall::template_file, Text<optional_path_rule>>(
        "template", "", "a text with variables, in place of the built-in one"),
    row<&VmInstall::disklabel, Text<optional_path_rule>>("disklabel", "",
                                                         "how the installer parts the disk"),
    row<&VmInstall::host_keys, Flag>("host_keys", "", "make the guest's ssh host key here"),
    row<&VmInstall::site, Table<vm_site_section>>("site", "none", "what this guest gets besides"),
};
constexpr Section vm_install_section = section<VmInstall>("vm.NAME.install", vm_install_rows);

constexpr Row vm_dhcp_rows[] = {
    row<&VmDhcp::filename, Optional<Text<boot_file_rule>>>("filename", "none", "boot file, or URL"),
    row<&VmDhcp::next_server, Optional<Address>>("next_server", "as the switch has it",
                                                 "where the VM fetches it"),
    row<&VmDhcp::options, DhcpOptions>("options", "none", "further options"),
};
constexpr Section vm_dhcp_section = section<VmDhcp>("vm.NAME.dhcp", vm_dhcp_rows);

constexpr Row console_log_rows[] = {
    row<&ConsoleLog::enabled, Flag>("enable", "true in a table", "write the log"),
    row<&ConsoleLog::path, Text<optional_path_rule>>("path", "console/NAME.log", "the file"),
    row<&ConsoleLog::size_bytes, Size<limits::min_disk_bytes, limits::max_console_log_bytes>>(
        "size", "", "size at which a new file is begun"),
    row<&ConsoleLog::count, Count<1, limits::max_console_log_files>>(
        "count", "", "files that are kept, with the one that is written to"),
    row<&ConsoleLog::bytes_per_s,
        Count<limits::min_console_log_bytes_per_s, limits::max_console_log_bytes_per_s>>(
        "bytes_per_s", "", "the most that is written in a second"),
};
constexpr Section console_log_section =
    section<ConsoleLog>("vm.NAME.console_log", console_log_rows);

// console_log = true, console_log = "path", or a table.
struct ConsoleLogSetting : Table<console_log_section> {
    static std::string type() { return "boolean, path or table"; }
    static void read(const Spot& spot, ConsoleLog& out) {
        if (spot.node.is_boolean())
            return Flag::read(spot, out.enabled);
        out.enabled = true;
        if (spot.node.is_string())
            Text<optional_path_rule>::read(spot, out.path);
        else if (spot.node.is_table())
            read_section(spot, console_log_section, &out);
        else
            spot.expected("true, false, a path or a table");
    }
};

using InstanceOptions = List<Text<instance_option_rule>, instance_options.size()>;
constexpr Row allow_instance_rows[] = {
    row<&AllowInstance::owner, OwnerName>("owner", "", "who may make instances, beside root"),
    row<&AllowInstance::options, InstanceOptions>("options", "", "what they may choose"),
};
constexpr Section allow_instance_section =
    section<AllowInstance>("vm.NAME.allow_instance", allow_instance_rows);

constexpr const char* no_sev = "encrypted guests (SEV) do not exist yet: leave it out, or false";
using BootFlags = List<Text<boot_flag_rule>, 3>;
constexpr Row vm_rows[] = {
    row<&Vm::enabled, Flag>("enable", "", "start the VM with the host"),
    row<&Vm::suspended, Flag>("suspended", "", "let nobody but root start the VM"),
    row<&Vm::instance_of, OrNone<Text<name_rule>>>("instance_of", "none",
                                                   "the VM that it has all other settings from"),
    row<&Vm::allow_instance, Table<allow_instance_section>>(
        "allow_instance", "none", "who may make instances of this VM while the host runs"),
    row<&Vm::owner, OwnerName>("owner", "", "who may control the VM, beside root"),
    row<&Vm::memory_bytes, Size<limits::min_memory_bytes, limits::max_memory_bytes>>(
        "memory", "", "memory of the guest, rounded down to MiB"),
    row<&Vm::vcpus, Count<1, limits::max_vcpus>>("vcpus", "", "processors of the guest"),
    row<&Vm::cpu, Choice<cpu_words>>("cpu", "", "the processor that the guest is shown"),
    row<&Vm::cpu_weight, Optional<Count<1, 10000>>>(
        "cpu_weight", "none", "share of the processors, where 100 is any other process's"),
    row<&Vm::cpu_limit_pct, Optional<Count<1, 100 * limits::max_vcpus>>>(
        "cpu_limit", "none", "the most of processor time, in percent of one processor"),
    row<&Vm::memory_limit_bytes,
        Optional<Size<limits::min_memory_bytes, 2 * limits::max_memory_bytes>>>(
        "memory_limit", "none", "the most memory of the VM's process, the guest's included"),
    row<&Vm::accel, Optional<Acceleration>>("accel", "host.accel", "how this guest runs"),
    row<&Vm::boot, Text<optional_path_rule>>("boot", "",
                                             "kernel or firmware image; empty is the BIOS"),
    row<&Vm::initrd, Text<optional_path_rule>>("initrd", "", "initial RAM disk of the kernel"),
    row<&Vm::command_line, Text<line_rule>>("command_line", "", "command line of the kernel"),
    row<&Vm::boot_flags, BootFlags>("boot_flags", "", "flags for an OpenBSD kernel"),
    row<&Vm::boot_device, Choice<boot_device_words>>("boot_device", "in the order of the firmware",
                                                     "the device that the firmware starts from"),
    row<&Vm::virtio, Choice<virtio_words>>("virtio", "",
                                           "generation of the devices that the guest sees"),
    row<&Vm::start_timeout, Duration<0, 1>>(
        "start_timeout", "", "how long the next ones wait for its answer, with delay = \"boot\""),
    row<&Vm::stop_answer_timeout, Duration<0, 1>>(
        "stop_answer_timeout", "", "how long the guest has to take note of a request to end"),
    row<&Vm::stop_timeout, Duration<0, 1>>("stop_timeout", "",
                                           "how long it has from then on to end"),
    row<&Vm::restart, Choice<restart_words>>("restart", "",
                                             "whether the VM is started again when it ends"),
    row<&Vm::console_log, ConsoleLogSetting>("console_log", "none",
                                             "what the guest says on its console, in a file"),
    row<&Vm::disks, Tables<disk_section, limits::max_disks>>("disk", "none", "disks, in order"),
    row<&Vm::cdrom, Optional<Text<optional_path_rule>>>(
        "cdrom", "no drive", "image in the CD-ROM drive; empty is a drive without one"),
    row<&Vm::balloon, Flag>("balloon", "",
                            "give memory that the guest does not use back to the host"),
    row<&Vm::sev, NotYet<Flag, no_sev>>("sev", "", "encrypt the guest's memory"),
    row<&Vm::sev_es, NotYet<Flag, no_sev>>("sev_es", "", "encrypt its registers too"),
    row<&Vm::virtio_console, Flag>("virtio_console", "", "a second console, of the virtio kind"),
    row<&Vm::interfaces, Tables<interface_section, limits::max_interfaces>>(
        "interface", "none", "network interfaces, in order"),
    row<&Vm::dhcp, Table<vm_dhcp_section>>("dhcp", "none", "what DHCP tells this VM"),
    row<&Vm::install, Table<vm_install_section>>("install", "none",
                                                 "what an unattended installation is told"),
};
constexpr Section vm_section = section<Vm>("vm.NAME", vm_rows);

// [allocate]

constexpr Word made_format_words[] = {{"raw", static_cast<int>(ImageFormat::raw)},
                                      {"qcow2", static_cast<int>(ImageFormat::qcow2)}};
constexpr TextRule allocated_ipv6_rule{"IPv6 prefix", "an IPv6 prefix such as \"2001:db8:1::/48\"",
                                       nullptr};
using AllocatedIpv6 = Parsed<parse_allocated_ipv6, text_of<Ipv6Prefix>, allocated_ipv6_rule>;
// What a [vm.NAME.install] begins with: only what it says, as a part alone would be refused.
struct AllocatedInstall : Table<vm_install_section> {
    static Json write(const VmInstall& install) {
        const VmInstall nothing;
        const auto usual = write_section(vm_install_section, &nothing);
        const auto all = write_section(vm_install_section, &install);
        Json out = Json::object();
        for (const auto& [key, value] : all.items())
            if (auto found = usual.find(key); found == usual.end() || *found != value)
                out[key] = value;
        return out.empty() ? Json(nullptr) : out;
    }
};
constexpr unsigned max_decimal_group = 9999;
constexpr unsigned max_grace_days = 3650;
constexpr Row allocate_rows[] = {
    row<&Allocate::domain, OrNone<Text<domain_rule>>>("domain", "host.domain",
                                                      "domain of host names without a dot"),
    row<&Allocate::switch_name, OrNone<Text<name_rule>>>("switch", "none",
                                                         "the switch that VMs are plugged into"),
    row<&Allocate::mac_prefix, OrNone<Text<mac_prefix_rule>>>(
        "mac_prefix", "none; addresses are derived", "first octets of their Ethernet addresses"),
    row<&Allocate::ipv4_start, Optional<Address>>("ipv4_start", "none; addresses are derived",
                                                  "the number of a VM is added to this"),
    row<&Allocate::ipv6_prefix, Optional<AllocatedIpv6>>(
        "ipv6_prefix", "none; addresses are derived", "network of their IPv6 addresses"),
    row<&Allocate::ipv6_start, Count<0, max_decimal_group>>(
        "ipv6_start", "", "the number of a VM is added to this for the fourth group"),
    row<&Allocate::images, OrNone<Text<absolute_path_rule>>>("images", "host.state",
                                                             "directory of their images"),
    row<&Allocate::image, OrNone<Text<path_rule>>>("image", "none; an empty disk",
                                                   "a ready system that their disks begin as"),
    row<&Allocate::boot, OrNone<Text<path_rule>>>("boot", "none; the BIOS",
                                                  "kernel or firmware that they start from"),
    row<&Allocate::memory_bytes, Size<limits::min_memory_bytes, limits::max_memory_bytes>>(
        "memory", "", "memory of those whose order does not say"),
    row<&Allocate::disk_bytes, DiskSize>("disk", "", "size of their disk"),
    row<&Allocate::format, Choice<made_format_words>>("format", "", "format of their disk"),
    row<&Allocate::install, AllocatedInstall>("install", "none",
                                              "what the installation of each of them is told"),
    row<&Allocate::accounts, Flag>("accounts", "", "make accounts of this host for the owners"),
    row<&Allocate::group, OrNone<Text<account_rule>>>("group", "the group of control.owner",
                                                      "group of these accounts"),
    row<&Allocate::shell, Text<absolute_path_rule>>("shell", "", "shell of these accounts"),
    row<&Allocate::grace_days, Count<0, max_grace_days>>(
        "grace_days", "", "how long images and numbers of VMs that are gone are kept"),
};
constexpr Section allocate_section = section<Allocate>("allocate", allocate_rows);

// The file

constexpr Row file_rows[] = {
    row<&Model::host, Table<host_section>>("host", "all defaults", "this host"),
    row<&Model::control, Table<control_section>>("control", "all defaults", "the control socket"),
    row<&Model::install, Table<install_section>>("install", "all defaults",
                                                 "the HTTP service for installers"),
    row<&Model::tftp, Table<tftp_section>>("tftp", "all defaults",
                                           "files for machines that boot from the network"),
    row<&Model::metrics, Table<metrics_section>>("metrics", "all defaults",
                                                 "what this host counts, by HTTP"),
    row<&Model::allocate, Table<allocate_section>>("allocate", "all defaults",
                                                   "what vmhost deploy gives to new VMs"),
    row<&Model::switches, Named<switch_section, limits::max_switches>>("switch", "none",
                                                                       "the switches"),
    row<&Model::vms, Vms<vm_section>>("vm", "none", "the virtual machines"),
};

void unknown_key(const Spot& table, const Section& section, const Member& member) {
    std::vector<std::string_view> known;
    for (const Row& each : section.rows)
        known.push_back(each.key);
    auto word = member.key->str();
    auto where = table.path.text();
    table.findings.complain(
        table.findings.place(member.key->source().begin), ErrorKind::invalid,
        fmt::format("unknown {} \"{}\"{}{}", where.empty() ? "table" : "key", printable(word, 70),
                    where.empty() ? std::string() : fmt::format(" in [{}]", where),
                    suggestion(word, known)));
}

// Keys of a section, then those of the sections inside it.
void describe(const Section& section, std::vector<KeyDescription>& out) {
    auto defaults = section.defaults(section);
    for (const Row& each : section.rows) {
        if (section.name.empty())
            break; // the tables themselves
        auto key = std::string(each.key);
        auto note = std::string(each.default_note);
        if (note.empty())
            note = defaults.at(key).dump();
        out.push_back({std::string(section.name), key, each.type(), note, std::string(each.help)});
    }
    for (const Row& each : section.rows)
        if (each.inner)
            describe(*each.inner, out);
}

} // namespace

const Section file_section = section<Model>("", file_rows);

void read_section(const Spot& spot, const Section& section, void* object) {
    auto* table = spot.node.as_table();
    if (!table)
        return spot.expected("a table");
    for (const Member& member : in_file_order(*table)) {
        auto found = std::find_if(section.rows.begin(), section.rows.end(),
                                  [&](const Row& each) { return each.key == member.key->str(); });
        if (found == section.rows.end()) {
            unknown_key(spot, section, member);
            continue;
        }
        Path path{&spot.path, found->key};
        Spot value{spot.findings, path, *member.node, member.key->source().begin};
        spot.findings.note_key(path.text(), value.key_place());
        found->read(value, object);
    }
    for (const Row& each : section.rows)
        if (each.required && !table->contains(each.key))
            spot.complain(fmt::format("\"{}\" is missing", each.key));
}

Json write_section(const Section& section, const void* object) {
    Json out = Json::object();
    for (const Row& each : section.rows)
        if (auto value = each.write(object); !value.is_null())
            out[std::string(each.key)] = std::move(value);
    return out;
}

std::string install_lines(const VmInstall& install) {
    std::string out;
    const auto written = AllocatedInstall::write(install);
    for (const auto& [key, value] : written.items())
        out += fmt::format("{} = {}\n", key, value_text(value));
    return out;
}

std::vector<KeyDescription> keys() {
    std::vector<KeyDescription> out;
    describe(file_section, out);
    return out;
}

} // namespace vmhost::config
