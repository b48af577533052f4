// The door of host/: the privileged parent. Brings a model up on this host, keeps
// it up, and undoes everything at the end: links, sockets, processes.
//
// Loop thread of the parent. Nothing here parses what comes from a guest or the
// network; messages of role processes are decoded by ipc/ with bounds.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "host/explain.h"
#include "host/gather.h"
#include "host/guest.h"
#include "host/install_watch.h"
#include "host/kernel_advice.h"
#include "host/leases.h"
#include "host/memory.h"
#include "host/plan.h"
#include "host/running.h"
#include "host/service_manager.h"
#include "host/services.h"
#include "host/users.h"
#include "loop/loop.h"
#include "net/net.h"

namespace vmhost::host {

struct Options {
    bool keep_going = false; // a VM that cannot start does not end the whole run
    bool debug_exit = false; // every guest gets the debug-exit device
};

// The model that a host starts with: the file's; or, when guests of an earlier host of this state
// directory run, the one that they are part of. The file is applied to that as to any host
// that is up.
config::Model model_to_start_with(Ground& ground, config::Model file);

class Host {
public:
    using Done = std::function<void(Result<void>)>;

    Host(Loop& loop, Ground& ground, config::Model model, Options options);
    ~Host();

    // Resolves users and owners, and what is remembered of VMs; changes nothing else on the host.
    Result<void> prepare();
    // After prepare: links, services, then every enabled VM in file order. done gets the first
    // thing that failed; call shut_down then too.
    void start(Done done);
    // Asks the guests to end, ends those that have not in [host] stop_timeout, then the services,
    // and removes links. done is called once nothing is left. Nothing more is said of a start or an
    // order that it cuts off.
    void shut_down(std::function<void()> done);
    // Instead of shut_down(): ends the services and leaves guests and links to the next host; done
    // is called when the services are gone. This one is of no use any more.
    void leave(std::function<void()> done);
    // Guests of an earlier host run here.
    bool took_over() const { return took_over_; }
    // Ends the guests that are still asked to, now.
    void hurry();
    // No further guest is started.
    void stop_starting() { ending_ = true; }

    const config::Model& model() const { return model_; }
    const Users& users() const { return users_; }
    // The user of the unprivileged roles; none when not started as root.
    const std::optional<User>& role_user() const { return role_user_; }
    const std::vector<std::unique_ptr<Guest>>& guests() const { return guests_; }
    Events& events() { return events_; }
    // All processes say more, or as much as they were started with.
    void log_verbosely(bool verbose);
    // A process that serves has ended unasked.
    void role_died(std::string_view role, std::string_view why);
    // Starts a VM that is not in the file, and is gone when it ends. done gets its number.
    // Refused while the host starts, ends, or applies something.
    void start_new(const config::NewVm& wish, GivenFiles files, StartOnce once,
                   std::function<void(Result<std::uint32_t>)> done);
    Guest* find_by_name(std::string_view name) const; // null when there is none
    // The DHCP and HTTP services, those that are wanted.
    std::vector<Service*> services() const;
    // Who has which address by DHCP, and the end of that for one of them.
    void list_leases(LeaseDesk::Listed listed) { leases_.list(std::move(listed)); }
    void release_lease(Ipv4 address, Done done) { leases_.release(address, std::move(done)); }
    // Whose interface a tap is, by the tap's name.
    struct Plug {
        std::string vm;
        std::size_t interface = 0;
    };
    std::map<std::string, Plug> plugs() const;
    // What the frame guards dropped; nothing when the kernel does not say.
    std::vector<net::GuardCount> guard_counts() const;
    // By name, or by id when the text is a number.
    Result<Guest*> find(std::string_view name_or_id) const;

    // A configuration as this process may read one: a regular file. Empty = the one it runs by. Of
    // many complaints, the first. With the addresses that are remembered.
    Result<config::Model> load(const std::string& file);
    // What it would take to be what the file says.
    Plan plan(const config::Model& file) const;
    struct Apply {
        config::Model file;
        bool restart_guests = true;            // else they have what changed at their next start
        bool by_force = false;                 // guests that end are not asked to
        bool new_ones_too = false;             // VMs that are not from the file go as well
        std::function<void(std::string)> told; // of each step that is done
        Done done;
    };
    // Does what plan() says, one step after the other: ends guests, changes switches, VMs and
    // services, starts guests. The first step that fails ends it: what was done stays, what was not
    // is in the next plan, and guests that were to be restarted run again. done is called once.
    // Refused while the host starts, ends, or applies something already.
    void apply(Apply order);
    bool applying() const { return order_ != nullptr; }
    // Forgets VMs, which end by force, and switches, until a file is applied again.
    enum class Reset : std::uint8_t { all, switches, vms };
    void reset(Reset what, Done done);

    // Somebody asks the HTTP service for the metrics: answer by give_metrics().
    std::function<void()> on_metrics_wanted;
    void give_metrics(const std::string& text);
    // What stays when the daemon ends; after prepare().
    Memory& memory() { return *memory_; }
    // Why the VM has what it has: json_of() explain().
    Result<std::string> explain_vm(std::string_view name_or_id);
    // Of taps by their names, while vhost-net moves frames of some guest: net_view.cc.
    std::map<std::string, net::LinkCounters> counters_of_taps() const;
    // Switches, ports, who is behind them and what they have counted, as JSON: net_view.cc.
    Result<std::string> net_view();
    // What is remembered of a VM that is not there: busy when it is, not_found when nothing is.
    Result<void> forget(const std::string& name);

    // Begins another installation of a VM: its next start is the installer's, when it has a kernel
    // for that, and its answer file is there again, once. By its file's mode, or an upgrade.
    Result<store::Installation> reinstall(std::string_view name_or_id, bool upgrade);
    // How far the VM's last installation is; null when it has none.
    const install::Progress* install_progress(const Guest& guest) const {
        return installs_->find(guest);
    }

    // Told of every lease and every answer file served.
    std::function<void(Guest&, std::string_view)> on_progress;

private:
    // guards.cc: what of the frame guards is not one guest's
    Result<void> renew_guards();
    Result<void> watch_guards();
    void forget_guards();
    void mend_guards();
    Result<std::optional<User>> user_of_vm(std::uint32_t id) const;
    Result<void> add_guest(const config::Vm& vm, std::uint32_t id);
    // remember.cc: what VMs have across restarts. note() says their ids, in the order of the model.
    Result<void> open_memory();
    Result<void> know_makers();
    std::optional<std::uint32_t> running_id(const std::string& name) const;
    std::optional<std::uint32_t> maker_of(const std::string& name) const;
    Result<std::vector<std::uint32_t>> note(const config::Model& next);
    Result<std::uint32_t> note_new(const config::Model& next, const config::Vm& vm,
                                   std::uint32_t maker);
    // take_over.cc: guests of an earlier host
    void open_running();
    void find_running();
    void take_over(std::function<void()> done);
    void keep_model() const;
    void stop_services(std::function<void()> done);
    Result<void> open_network();
    Result<void> make_switch(const config::Switch& one);
    Result<void> remove_switch(const config::Switch& one);
    Result<void> make_links();
    void remove_links();
    std::unique_ptr<Service> make_dhcp();
    std::unique_ptr<Service> make_ipv6();
    void end_routing();
    std::unique_ptr<Service> make_http();
    std::unique_ptr<Service> make_tftp();
    void start_services(Done done);
    // new_guest.cc: VMs that are not in the file
    Result<Guest*> add_new(const config::NewVm& wish);
    void remove_ended();
    void tell_services();
    Result<void> keep_new(config::Model& file) const;
    // apply.cc: the steps of an order that is being carried out
    struct Order;
    std::vector<VmState> guest_states() const;
    Plan plan_for(const config::Model& wanted) const;
    // foreign.cc: what somebody else has changed of our links, of what the file goes on with
    std::vector<Change> foreign_changes(const config::Model& wanted) const;
    void next_step();
    void fail_order(Error error);
    void stop_guests(Done done);
    Result<void> change_switches();
    bool stays(const std::string& name) const;
    Result<void> give_up_links();
    Result<void> restore_taps();
    Result<void> change_switch(const config::Switch* before, const config::Switch& after);
    Result<void> change_vms();
    void change_settings();
    void renew_services(Done done);
    Result<void> drop_services();
    void start_guests(Done done);
    // waves.cc
    void start_wave();
    void one_started(Guest& guest, Result<void> started);
    void let_slow_ones_be();
    void end_wave();
    void look_for_answers();
    bool has_answered(const Guest& guest);
    void took_dhcp(ipc::Frame&& frame);
    void took_http(ipc::Frame&& frame);
    // install.cc
    InstallStates install_states() const;
    InstallState install_state(const Guest& guest) const;
    ipc::HttpClaimed decide(const ipc::HttpClaim& claim);
    static void renew_told(Service* service);
    void watch_installs();
    void ask_for_ssh(const Guest& guest);
    void took_set(const ipc::HttpSetSent& sent);
    // host_keys.cc
    void renew_host_keys();
    Result<void> renew_host_key(const Guest& guest);
    Result<std::string> keyed_set(const Guest& guest, const config::Vm& vm,
                                  const InstallState& state);
    void installation_is_over(const Guest& guest);

    Loop& loop_;
    Ground& ground_;
    config::Model model_;
    Options options_;
    const std::string log_levels_ = log::levels(); // as started
    Events events_;
    Users users_;
    std::optional<User> role_user_;
    Fd network_lock_;
    std::unique_ptr<net::Network> network_;
    Fd guard_changes_;
    std::unique_ptr<Watch> guard_watch_; // of that
    std::vector<BridgeLink> bridges_;
    std::unique_ptr<Service> dhcp_, ipv6_, http_, tftp_; // null: the model wants none
    Advertised advertised_;                              // by ipv6_, as it was told
    LeaseDesk leases_;
    DhcpHas dhcp_has_; // the networks that its process serves
    HttpHas http_has_; // of its process
    GuestContext context_;
    std::optional<RunningGuests> running_; // none: guests end with this host
    struct Found {
        RunningGuest record;
        Fd process; // none: it is stopped, and stays so
    };
    std::vector<Found> found_; // until they are taken over
    bool was_found(const std::string& name) const;
    bool took_over_ = false;
    std::vector<std::unique_ptr<Guest>> guests_; // in the order of the file; new ones come last
    std::optional<Memory> memory_;
    std::optional<InstallWatch> installs_;            // after that
    std::map<std::uint32_t, std::string> keyed_sets_; // that are being given out, by id of the VM
    std::map<std::string, std::uint32_t> makers_;     // of VMs that are not in the file
    std::shared_ptr<Order> order_;                    // null: nothing is being applied
    Timer step_;                         // the next step of an order, in a turn of its own
    Timer stagger_;                      // until the next wave
    Timer answers_;                      // looks whether the last one has answered
    Timer slow_;                         // when those that are not up are let be
    std::vector<std::string> wave_;      // its guests; those that have not answered
    std::vector<std::string> coming_up_; // of these, those that are being started
    Timer hurry_;                        // guests have been asked for long enough
    Timer mend_;                         // looks whether the guards are there
    Timer sweep_;                        // removes guests that are not in the file and have ended
    Done started_;                       // of start()
    std::optional<Error> start_failure_; // the first of a start that goes on
    bool up_ = false;                    // start() is done
    bool ending_ = false;
};

// Of many complaints, the first.
Result<config::Model> first_complaint(std::expected<config::Model, config::Complaints> model);

} // namespace vmhost::host
