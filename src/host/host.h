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
#include "host/plan.h"
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
    // Refused while the host starts, ends, or applies something.
    void start_new(const config::NewVm& wish, GivenFiles files, StartOnce once,
                   std::function<void(Result<std::uint32_t>)> done);
    // By name, or by id when the text is a number.
    Result<Guest*> find(std::string_view name_or_id) const;

    // A configuration as this process may read one: a regular file. Empty = the one it runs by. Of
    // many complaints, the first.
    Result<config::Model> load(const std::string& file) const;
    // What it would take to be what the file says.
    Plan plan(const config::Model& file) const;
    struct Apply {
        config::Model file;
        bool restart_guests = true;            // else they have what changed at their next start
        std::function<void(std::string)> told; // of each step that is done
        Done done;
    };
    // Does what plan() says, one step after the other: ends guests, changes switches, VMs and
    // services, starts guests. The first step that fails ends it: what was done stays, what was not
    // is in the next plan, and guests that were to be restarted run again. done is called once.
    // Refused while the host starts, ends, or applies something already.
    void apply(Apply order);
    bool applying() const { return order_ != nullptr; }

    // Told of every lease and every answer file served.
    std::function<void(Guest&, std::string_view)> on_progress;

private:
    Result<std::optional<User>> user_of_vm(std::uint32_t id) const;
    Result<void> add_guest(const config::Vm& vm);
    Result<void> open_network();
    Result<void> make_switch(const config::Switch& one);
    Result<void> remove_switch(const config::Switch& one);
    Result<void> make_links();
    std::unique_ptr<Service> make_dhcp();
    std::unique_ptr<Service> make_http();
    void start_services(Done done);
    // new_guest.cc: VMs that are not in the file
    Result<Guest*> add_new(const config::NewVm& wish);
    void remove_ended();
    void tell_services();
    Result<void> keep_new(config::Model& file) const;
    // apply.cc: the steps of an order that is being carried out
    struct Order;
    void next_step();
    void fail_order(Error error);
    void stop_guests(Done done);
    Result<void> change_switches();
    bool stays(const std::string& name) const;
    Result<void> give_up_links();
    Result<void> change_vms();
    void change_settings();
    void renew_services(Done done);
    Result<void> drop_services();
    void start_guests(Done done);
    void start_wave();
    void one_started(Guest& guest, Result<void> started);
    void took_dhcp(ipc::Frame&& frame);
    void took_http(ipc::Frame&& frame);

    Loop& loop_;
    config::Model model_;
    Options options_;
    Users users_;
    std::optional<User> role_user_;
    Fd network_lock_;
    std::unique_ptr<net::Network> network_;
    std::vector<BridgeLink> bridges_;
    std::unique_ptr<Service> dhcp_, http_; // null: the model wants none
    GuestContext context_;
    std::vector<std::unique_ptr<Guest>> guests_; // in the order of the file; new ones come last
    std::uint32_t last_id_ = 0;          // given; an id is one VM's for as long as the daemon runs
    std::shared_ptr<Order> order_;       // null: nothing is being applied
    Timer step_;                         // the next step of an order, in a turn of its own
    Timer stagger_;                      // until the next wave
    Timer hurry_;                        // guests have been asked for long enough
    Timer sweep_;                        // removes guests that are not in the file and have ended
    Done started_;                       // of start()
    std::size_t in_wave_ = 0;            // guests that are being started
    std::optional<Error> start_failure_; // the first of a start that goes on
    bool up_ = false;                    // start() is done
    bool ending_ = false;
};

} // namespace vmhost::host
