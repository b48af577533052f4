// The DHCP and HTTP service processes: what they are told of the model, and how
// they are kept up.
//
// Loop thread of the parent.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "host/child.h"
#include "ipc/messages.h"
#include "net/net.h"

namespace vmhost::host {

// A service process that is started again, a second later, when it ends unasked.
// prepare opens its sockets and describes its work afresh for each start.
class Service {
public:
    struct Plan {
        Launch launch;
        std::function<Result<std::vector<ipc::Frame>>()> prepare;
        std::function<void(ipc::Frame&&)> frame; // everything but Ready and Failed
    };
    Service(Loop& loop, Plan plan);
    ~Service();

    // up is called once: the service works, or why it does not.
    void start(std::function<void(Result<void>)> up);
    // Starts it, or ends the process and starts another, which prepare describes afresh; up as of
    // start. Unlike there, one that does not come up is tried again, each second.
    void renew(std::function<void(Result<void>)> up);
    // down is called when the process is gone; at once when there is none.
    void stop(std::function<void()> down);
    void send(ipc::Frame frame);

private:
    void launch();
    void report(Result<void> result);

    Loop& loop_;
    Plan plan_;
    std::unique_ptr<RoleChild> process_;
    std::function<void(Result<void>)> up_;
    std::function<void()> down_;
    std::optional<Error> failure_;
    bool stopping_ = false;
    bool renewing_ = false;
    bool renewed_ = false; // the host is up without it: it is tried until it works
    Timer restart_;
    Timer kill_; // for a process that does not end when told to
};

struct BridgeLink {
    std::string switch_name;
    unsigned index = 0; // of the bridge interface
};

// One message per network, so that their number has no limit of its own. Opens port 67 on
// every bridge that serves DHCP.
Result<std::vector<ipc::Frame>> describe_dhcp(const config::Model& model,
                                              const std::vector<BridgeLink>& bridges);
// One message per listening socket and per answer file.
Result<std::vector<ipc::Frame>> describe_http(const config::Model& model);
bool wants_dhcp(const config::Model& model);
bool wants_http(const config::Model& model);

} // namespace vmhost::host
