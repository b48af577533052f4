// What happens to a host, from a seed: a file, a start, verbs, changed files, deaths of processes
// and of the parent; and after each storm, what must be true then.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "host/host.h"
#include "spec.h"
#include "world.h"

namespace vmhost::simulation {

struct Settings {
    std::uint64_t seed = 1;
    // Kill the parent at this step of the world (from 1), whatever it is at; 0 = as the seed says.
    std::uint64_t kill_at = 0;
    bool calm = false;    // nothing goes wrong by itself
    bool outlive = false; // VM processes go on without their parent, and are adopted
    bool verbose = false;
};

struct Outcome {
    std::vector<std::string> complaints;
    std::uint64_t hash = 0;  // of the history
    std::uint64_t steps = 0; // that parents made
};

// directory: empty, and the scenario's own.
Outcome run_scenario(const Settings& settings, const std::string& directory);

// ---- inside -----------------------------------------------------------------

// What the checker knows of a VM, from what it did and what it saw, not from the host.
struct Knowledge {
    enum class Want : std::uint8_t { down, up, unknown } want = Want::down;
    bool touched = false; // there is a reason that it comes or goes
    bool temporary = false;
    bool stopped = false; // on request: the next parent does not start it
    unsigned verbs = 0, unasked_deaths = 0;
};

class Scenario final : public Observer {
public:
    Scenario(const Settings& settings, std::string directory);
    ~Scenario() override;
    Outcome run();

private:
    using Want = Knowledge::Want;
    // The order that is being carried out.
    struct Order {
        std::set<std::string> may_restart;                           // or start, or stop
        std::map<std::string, std::pair<unsigned, unsigned>> before; // verbs and deaths
        config::Model file;
    };

    // ---- one parent after the other
    bool boot();
    void expect_start(const config::Model& model);
    void bury();
    void end();
    void arm();
    void shut_down();
    void leave();
    // Calls what may be the end of the parent.
    void in_parent(const std::function<void()>& call);
    void advance(std::uint64_t ms);
    bool advance_until(const std::function<bool()>& over, std::uint64_t most_ms);
    void rest();

    // ---- what is done to the host
    void act();
    void act_on(host::Guest& guest);
    void meddle();
    void start(const std::string& name);
    void stop(host::Guest& guest);
    void save(host::Guest& guest);
    void snapshot(host::Guest& guest);
    void start_new();
    void write_file();
    void edit();
    void apply(bool restart_guests);
    bool stops(const std::string& name) const;
    void applied(const Order& order, bool done);
    void kill_some_process();

    // A callback that has to be called once while the parent lives.
    std::function<void()> promise(const std::string& what, std::function<void()> then = {});
    std::function<void(Result<void>)> promise_result(const std::string& what,
                                                     std::function<void(Result<void>)> then = {});

    // ---- what must be true (check.cc)
    void complain(const std::string& text);
    void check();
    void check_processes();
    void check_services();
    void check_links();
    void check_ids();
    void check_promises();
    bool waits_well(const std::string& what) const;
    void check_disks();
    void check_wants();
    void check_plan();
    void check_gone();
    void check_wave(const std::string& name);
    void left_wave(const std::string& name);

    void launched(const Process& process) override;
    void ready(const Process& process) override;
    void ended(const Process& process) override;

    Knowledge& known(const std::string& name) { return known_[name]; }
    static std::string vm_of(const Process& process) { return process.launch.title.substr(3); }

    std::string plugs_of(const std::string& name) const;

    Settings settings_;
    std::string directory_, file_;
    World world_;
    Random& random_;
    Spec spec_;
    std::string untouched_; // the kernel before there was a vmhost
    std::unique_ptr<Life> life_;
    std::unique_ptr<host::Host> host_;
    bool up_ = false;         // start() has said that it is
    bool ending_ = false;     // shut_down() was called
    bool ended_well_ = false; // the last parent was not killed
    std::map<std::string, Knowledge> known_;
    std::map<std::string, std::string> started_with_; // plugs
    std::vector<std::string> complaints_;
    struct Promise {
        std::string what;
        unsigned called = 0;
    };
    std::vector<std::shared_ptr<Promise>> promises_; // of this parent
    // The waves of a start.
    std::set<std::string> in_wave_, launched_once_;
    std::uint64_t last_ready_ms_ = 0;
    bool wave_of_start_ = false;
    unsigned counter_ = 0; // for names of what is new
};

} // namespace vmhost::simulation
