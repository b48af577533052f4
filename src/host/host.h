// The door of host/: the privileged parent. Brings a model up on this host, keeps
// it up, and undoes everything at the end: links, sockets, processes.
//
// Loop thread of the parent. Nothing here parses what comes from a guest or the
// network; messages of role processes are decoded by ipc/ with bounds.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "host/guest.h"
#include "host/services.h"
#include "host/users.h"
#include "loop/loop.h"
#include "net/net.h"

namespace vmhost::host {

struct Options {
    bool keep_going = false; // a VM that cannot start does not end the whole run
    bool debug_exit = false; // every guest gets the debug-exit device
};

class Host {
public:
    using Done = std::function<void(Result<void>)>;

    Host(Loop& loop, config::Model model, Options options);
    ~Host();

    // Resolves users and owners; changes nothing on the host.
    Result<void> prepare();
    // After prepare: links, services, then every enabled VM in file order. done gets the first
    // thing that failed; call shut_down then too.
    void start(Done done);
    // Asks the guests to end, ends those that have not in [host] stop_timeout, then the services,
    // and removes links. done is called once nothing is left.
    void shut_down(std::function<void()> done);
    // Ends the guests that are still asked to, now.
    void hurry();
    // No further guest is started.
    void stop_starting() { ending_ = true; }

    const config::Model& model() const { return model_; }
    const Users& users() const { return users_; }
    // The user of the unprivileged roles; none when not started as root.
    const std::optional<User>& role_user() const { return role_user_; }
    const std::vector<std::unique_ptr<Guest>>& guests() const { return guests_; }
    // Starts a VM that is not in the file, and is gone when it ends. done gets its number.
    void start_new(const config::NewVm& wish, GivenFiles files, StartOnce once,
                   std::function<void(Result<std::uint32_t>)> done);
    // By name, or by id when the text is a number.
    Result<Guest*> find(std::string_view name_or_id) const;

    // Told of every lease and every answer file served.
    std::function<void(Guest&, std::string_view)> on_progress;

private:
    Result<void> make_links();
    Result<void> make_bridge(const config::Switch& one);
    Result<void> open_network();
    Service& add_service(const char* role, Result<std::vector<ipc::Frame>> (Host::*describe)(),
                         void (Host::*took)(ipc::Frame&&));
    Result<std::vector<ipc::Frame>> describe_dhcp();
    Result<std::vector<ipc::Frame>> describe_http();
    Result<Guest*> add_guest(const config::NewVm& wish);
    void remove_ended();
    void renew_services();
    void start_services(Done done);
    void start_wave();
    void one_started(Guest& guest, Result<void> started);
    void took_dhcp(ipc::Frame&& frame);
    void took_http(ipc::Frame&& frame);

    Loop& loop_;
    config::Model model_;
    Options options_;
    GuestContext context_;
    std::uint32_t last_id_ = 0;
    Users users_;
    std::optional<User> role_user_;
    Fd network_lock_;
    std::unique_ptr<net::Network> network_;
    std::vector<BridgeLink> bridges_;
    std::vector<std::unique_ptr<Service>> services_;
    Service* dhcp_ = nullptr; // none = nobody needs it
    Service* http_ = nullptr;
    std::vector<std::unique_ptr<Guest>> guests_;
    Timer stagger_;           // until the next wave
    Timer hurry_;             // guests have been asked for long enough
    Timer sweep_;             // removes temporary guests that have ended
    Done started_;            // of start()
    std::size_t in_wave_ = 0; // guests that are being started
    bool ending_ = false;
};

} // namespace vmhost::host
