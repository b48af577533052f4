// The DHCP and HTTP service processes: what they are told of the model, and how
// they are kept up.
//
// Loop thread of the parent.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "host/backoff.h"
#include "host/ground.h"
#include "host/heartbeat.h"
#include "install/install.h"
#include "ipc/messages.h"
#include "net/net.h"

namespace vmhost::host {

// A service process that is started again when it ends unasked, or when it does not answer: a
// second later, and later each time that it does not stay up for a minute.
// prepare opens its sockets and describes its work afresh for each start.
class Service {
public:
    struct Plan {
        Ground& ground;
        Launch launch;
        std::function<Result<std::vector<ipc::Frame>>()> prepare;
        std::function<void(ipc::Frame&&)> frame; // everything that is not for every service
        // Describes its work anew for the living process, which keeps what it has; may be null:
        // then a change starts the process afresh.
        std::function<Result<std::vector<ipc::Frame>>()> change = nullptr;
        // It ended unasked, and is started again; may be null.
        std::function<void(const std::string& why)> died = nullptr;
        std::function<std::chrono::milliseconds()> answer_timeout = nullptr; // 0 = may be silent
    };
    Service(Loop& loop, Plan plan);
    ~Service();

    // up is called once: the service works, or why it does not.
    void start(std::function<void(Result<void>)> up);
    // Starts it, or tells the process what has changed; or ends the process and starts another,
    // which prepare describes afresh. up as of start. Unlike there, one that does not come up is
    // tried again.
    void renew(std::function<void(Result<void>)> up);
    // down is called when the process is gone; at once when there is none.
    void stop(std::function<void()> down);
    void send(ipc::Frame frame);
    // Asks the process what it has counted; done is called when it has said, or when it is late.
    void count(std::function<void()> done);

    const std::string& title() const { return plan_.launch.title; }
    bool up() const { return ready_; } // it has said that it works
    std::optional<pid_t> pid() const;
    unsigned restarts() const { return restarts_; } // of processes that ended unasked
    const std::vector<ipc::ServiceCounter>& counted() const { return counted_; }

private:
    void launch();
    bool change();
    void report(Result<void> result);
    void took_frame(ipc::Frame&& frame);
    void process_ended(std::string how);
    void launch_later();
    void end_counting();

    Loop& loop_;
    Plan plan_;
    std::unique_ptr<RoleChild> process_;
    std::function<void(Result<void>)> up_;
    std::function<void()> down_;
    std::optional<Error> failure_;
    bool stopping_ = false;
    bool renewing_ = false;
    bool renewed_ = false; // the host is up without it: it is tried until it works
    bool ready_ = false;
    std::uint64_t ready_ms_ = 0; // since then
    unsigned restarts_ = 0;
    std::uint64_t worked_ms_ = 0; // the process that has ended
    Backoff backoff_;
    std::vector<ipc::ServiceCounter> counted_;
    std::vector<std::function<void()>> counting_;
    Timer restart_;
    Timer kill_; // for a process that does not end when told to
    Timer count_timer_;
    Heartbeat heartbeat_;
};

struct BridgeLink {
    std::string switch_name;
    unsigned index = 0; // of the bridge interface
};

// What the services are to know of the installation of a VM of the model.
struct InstallState {
    bool armed = false;       // it has an install table, and its answers have not been given out
    bool upgrade = false;     // what it is, or was, armed for
    std::uint32_t number = 0; // of the installation; 0 = it never had one
    // That this host made for it, with the private part while it may be given out; else empty.
    install::HostKey host_key;
};
using InstallStates = std::function<InstallState(const config::Vm&)>;

// One message per network, so that their number has no limit of its own. Opens port 67 on
// every bridge that serves DHCP, but those that the process has already: has, which is brought up
// to date. A process that has none is handed leases.db too.
using DhcpHas = std::map<std::string, unsigned>; // index of the bridge, by switch
Result<std::vector<ipc::Frame>> describe_dhcp(Ground& ground, const config::Model& model,
                                              const std::vector<BridgeLink>& bridges,
                                              const InstallStates& installs, DhcpHas& has,
                                              bool anew);
// What DHCP tells of a boot file: the installer's mode is named to who is armed for it alone.
ipc::DhcpGuest dhcp_guest(const config::Switch& one, const config::Vm& vm,
                          const config::Interface& interface, const InstallState& install);
// One message per listening socket, location and answer file. A process that has its sockets and
// directories already is told of answer files alone; it is an error when those should be others.
struct HttpHas {
    struct Socket {
        config::ListenAddress at;
        std::string device;        // of a routing domain; else empty
        unsigned device_index = 0; // a socket stays with the device that it was bound to
        bool metrics = false;
        bool operator==(const Socket&) const = default;
    };
    struct File { // zeros: it is not there
        std::uint64_t device = 0, inode = 0;
        bool operator==(const File&) const = default;
    };
    std::vector<Socket> sockets;
    std::vector<config::HttpLocation> locations;
    std::vector<File> files; // their directories: another may have come in the place of one
    std::string access_log;
    bool operator==(const HttpHas&) const = default;
};
Result<std::vector<ipc::Frame>> describe_http(Ground& ground, const config::Model& model,
                                              const InstallStates& installs, HttpHas& has,
                                              bool anew);
// What stands in a file of the VM's installation, by a name that install_files() has. more: values
// of variables that are not to be made.
Result<std::string> install_file(const config::Model& model, const config::Vm& vm,
                                 const InstallState& state, std::string_view name,
                                 install::Values more = {});
// A VM that was never installed is armed for this.
InstallState first_installation(const config::Vm& vm);
// Whether all of them can be made.
Result<void> try_install_files(const config::Model& model, const config::Vm& vm,
                               const InstallState& state);
// The same for IPv6: one message per network, with the sockets for it.
Result<std::vector<ipc::Frame>> describe_ipv6(Ground& ground, const config::Model& model,
                                              const std::vector<BridgeLink>& bridges);
bool wants_ipv6(const config::Model& model);
// What advertisements have guests believe, by name of the switch.
struct Advertisement {
    Ipv6Prefix prefix;
    bool router = false;
    bool autonomous = false;
    bool operator==(const Advertisement&) const = default;
};
using Advertised = std::map<std::string, Advertisement>;
Advertised advertised_by(const config::Model& model);
// The switches whose guests believe something that is true no more.
std::vector<std::string> to_withdraw(const Advertised& before, const Advertised& now);
bool wants_dhcp(const config::Model& model);
bool wants_http(const config::Model& model);
// The directory, and one message per socket.
Result<std::vector<ipc::Frame>> describe_tftp(Ground& ground, const config::Model& model);
bool wants_tftp(const config::Model& model);

} // namespace vmhost::host
