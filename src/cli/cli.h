// The door of cli/: command lines of vmhost and vmctl, and everything they print.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/base.h"
#include "config/config.h"

namespace vmhost::cli {

inline constexpr const char* default_config = "/etc/vmhost.toml";
inline constexpr const char* default_socket = "/run/vmhost.sock";

// Of this program: "0.1.0".
const char* version_text();

// What a command line asked for.
struct Command {
    enum class Verb {
        done, // help, version or a mistake, already printed: exit with status
        run,
        config_check,
        config_show,
        import,
        completion,
        status,
        start,
        stop,
        pause,
        unpause,
        send,
        receive,
        snapshot,
        console,
        wait,
        cdrom,
        memory,
        metrics,
        top,
        events,
        log,
        reset,
        create,
        plan,
        apply,
        upgrade,
        reinstall,
        reload,
        image_check,
        image_info,
        image_compress,
        explain,
        forget,
        audit,
        leases,
        net,
        net_trace,
        sets_fetch,
        sets_list,
        sets_verify,
        deploy,
        undeploy,
        sshfp,
        answers,
    };
    Verb verb = Verb::done;
    int status = 0;
    std::string config = default_config;
    std::string socket = default_socket;
    std::string log_levels;
    std::string vm;
    std::size_t newest = 50; // audit -n
    bool json = false;
    bool running_only = false; // status -r
    bool all = false;          // stop -a, sets fetch -a
    bool force = false;
    bool wait = false;
    bool attach = false;         // start -c
    std::string boot_device;     // start -B
    std::string kernel;          // start -b
    std::string snapshot;        // start -S; snapshot: its name
    bool remove = false;         // snapshot -d
    std::uint64_t bytes = 0;     // memory, start -m
    std::string iso;             // start -r; cdrom: the path, or "eject"
    bool read_only = false;      // console -r
    std::string port = "serial"; // console -p
    bool follow = false;         // events -f, log -f
    double interval_s = 2;       // top -d
    unsigned count = 0;          // top -n; 0 = for ever
    std::string release;         // leases: an address to take back
    std::string reset = "all";   // reset: or "switches", "vms"
    bool yes = false;            // apply -y, reinstall -y
    bool upgrade = false;        // reinstall --upgrade, answers --upgrade
    std::string file_name;       // answers: of an installation
    bool secrets = false;        // answers --secrets
    bool keep_guests = false;    // apply --keep-guests
    bool socket_given = false;
    // start of a VM that is not in the file.
    std::string parent;             // -t
    std::vector<std::string> disks; // -d
    std::vector<std::string> wires; // -n's switches and -L's nothing, in their order
    std::size_t interfaces_min = 0; // -i
    bool keep_going = false;
    bool debug_exit = false;
    // Of images.
    std::string image, target, base, source, size;
    bool repair = false;
    std::vector<std::string> macros; // import -D name=value
    bool dhcpd = false;              // import --dhcpd
    int level = 3;
    // Of sets.
    std::string release_version, arch, mirror;
    // Of a trace.
    unsigned interface = 0;   // of the VM
    std::uint64_t frames = 0; // at most; 0 = no limit
    // Of orders.
    std::vector<std::string> names;     // deploy: files and directories; undeploy, sshfp: VMs
    bool dry_run = false;               // -n
    bool update = false;                // deploy --update
    bool due = false;                   // deploy --due
    bool remove_account = false;        // undeploy --account
    std::vector<std::string> key_files; // sshfp -k
    bool sha1 = false, generic = false, send = false; // sshfp
};

// argv[0] decides: called as vmctl it is vmctl(8), else vmhost(8).
Command parse(int argc, char** argv);

// Loads the file or prints every complaint to standard error.
std::optional<config::Model> load_config(const Command& command);

// vmhost config check and config show. Exit status.
int run_config(const Command& command);

// vmhost completion. Exit status.
int run_completion(const Command& command);

// vmhost import. Exit status.
int run_import(const Command& command);

// vmctl create, and vmhost image. Exit status.
int run_image(const Command& command);

// vmhost upgrade. Exit status.
int run_upgrade(const Command& command);

// vmhost answers. Exit status.
int run_answers(const Command& command);

// vmhost reinstall. Exit status.
int run_reinstall(const Command& command);
// vmhost plan and apply, vmctl reload and load. Exit status.
int run_plan(const Command& command);

// vmhost leases. Exit status.
int run_leases(const Command& command);

// vmhost net. Exit status.
int run_net(const Command& command);

// vmhost sets. Exit status.
int run_sets(const Command& command);

// vmhost explain, forget and audit. Exit status.
int run_records(Command command);

// vmhost net trace. Exit status.
int run_trace(Command command);

// vmhost deploy, undeploy and sshfp. Exit status.
int run_deploy(const Command& command);
int run_undeploy(const Command& command);
int run_sshfp(const Command& command);

// The verbs of vmctl that ask the daemon. Exit status.
int run_vmctl(const Command& command);

} // namespace vmhost::cli
