// Runs scenarios of one seed after the other.
//
//   host_simulation                 each step of a few scenarios, then seeds until the time is over
//   host_simulation --survey N [--calm] [--outlive]             one line for each seed that fails
//   host_simulation --seed N [--kill-at K] [--calm] [--outlive]     one scenario, with its history
//
// SIMULATION_SECONDS (20) is the time, SIMULATION_SEEDS (2000) the most seeds, SIMULATION_FIRST (1)
// the first. A failure prints what to say to see the same again.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <unistd.h>

#include "scenario.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

using namespace vmhost;
using namespace vmhost::simulation;

namespace {

// Where something was found once; see the history of host/ and net/ for what.
constexpr Settings found_once[] = {
    {.seed = 2, .kill_at = 66, .calm = true}, // a disk that was made and not filled
    {.seed = 6, .kill_at = 24, .calm = true}, // the same, of qcow2
    {.seed = 6, .kill_at = 10, .calm = true}, // addresses of bridges that were left
    {.seed = 555},                            // stopped, and started again by an order
    {.seed = 434},                            // bridges of a host whose file has no network now
    {.seed = 1442},                           // the same, with the port that one held
    {.seed = 13504},                          // a switch that was changed in part, and refused
    {.seed = 286, .outlive = true},           // not in the file, and never had a process
    {.seed = 1266, .outlive = true},          // a service that is renewed while the host starts
};

class Runner {
public:
    Runner() {
        // The log of the host is part of a history, and not of the test's output.
        directory_ = std::filesystem::temp_directory_path() /
                     fmt::format("vmhost-simulation-{}", ::getpid());
        for (const char* memory : {"/dev/shm"})
            if (::access(memory, W_OK) == 0)
                directory_ = std::filesystem::path(memory) / directory_.filename();
        std::filesystem::create_directories(directory_);
        const int kept = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_set_report_fd(reinterpret_cast<void*>(static_cast<std::intptr_t>(kept)));
#else
        (void)kept;
#endif
        history_ = Fd(::open((directory_ / "history").c_str(),
                             O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600));
        ::dup2(history_.get(), STDERR_FILENO);
        (void)log::set_levels("error");
    }
    ~Runner() {
        std::error_code none;
        std::filesystem::remove_all(directory_, none);
    }

    Outcome run(const Settings& settings) {
        (void)!::ftruncate(history_.get(), 0);
        auto folder = directory_ / "host";
        std::filesystem::remove_all(folder);
        std::filesystem::create_directory(folder);
        return run_scenario(settings, folder.string());
    }

    // Again, with its history.
    bool show(Settings settings) {
        settings.verbose = true;
        (void)log::set_levels("info");
        const auto outcome = run(settings);
        (void)log::set_levels("error");
        std::fflush(stdout);
        std::ifstream file(directory_ / "history");
        for (std::string line; std::getline(file, line);)
            std::puts(line.c_str());
        std::printf("hash %016llx, %llu steps\n", static_cast<unsigned long long>(outcome.hash),
                    static_cast<unsigned long long>(outcome.steps));
        for (const auto& complaint : outcome.complaints)
            std::printf("WRONG: %s\n", complaint.c_str());
        return outcome.complaints.empty();
    }

    bool good(const Settings& settings) {
        const auto outcome = run(settings);
        if (outcome.complaints.empty())
            return true;
        show(settings);
        std::printf("to see it again: host_simulation --seed %llu%s%s%s\n",
                    static_cast<unsigned long long>(settings.seed),
                    settings.kill_at ? fmt::format(" --kill-at {}", settings.kill_at).c_str() : "",
                    settings.calm ? " --calm" : "", settings.outlive ? " --outlive" : "");
        return false;
    }

private:
    std::filesystem::path directory_;
    Fd history_;
};

std::uint64_t number(const char* name, std::uint64_t otherwise) {
    const char* value = std::getenv(name);
    return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

// The same seed has the same history: what fails can be looked at.
bool repeats(Runner& runner, std::uint64_t seed) {
    const auto one = runner.run({.seed = seed}), two = runner.run({.seed = seed});
    if (one.hash == two.hash && one.steps == two.steps)
        return true;
    std::printf("seed %llu has two histories\n", static_cast<unsigned long long>(seed));
    return false;
}

// kill -9 at each step, of a scenario in which nothing else goes wrong.
bool every_step(Runner& runner, std::uint64_t seed, std::uint64_t& kills,
                const std::function<bool()>& time_left) {
    const auto whole = runner.run({.seed = seed, .calm = true});
    if (!whole.complaints.empty())
        return runner.good({.seed = seed, .calm = true});
    for (std::uint64_t step = 1; step <= whole.steps && time_left(); ++step, ++kills)
        if (!runner.good({.seed = seed, .kill_at = step, .calm = true}))
            return false;
    return true;
}

int run_all() {
    Runner runner;
    const auto begin = std::chrono::steady_clock::now();
    const auto seconds = number("SIMULATION_SECONDS", 20), most = number("SIMULATION_SEEDS", 2000),
               first = number("SIMULATION_FIRST", 1);
    auto time_left = [&](std::uint64_t part_pct) {
        auto used = std::chrono::duration_cast<std::chrono::milliseconds>(
            std::chrono::steady_clock::now() - begin);
        return static_cast<std::uint64_t>(used.count()) < seconds * 10 * part_pct;
    };
    for (const auto& one : found_once)
        if (!runner.good(one))
            return 1;
    if (!repeats(runner, first))
        return 1;
    std::uint64_t seeds = 0, kills = 0, whole = 0;
    for (; time_left(40); ++whole)
        if (!every_step(runner, first + whole, kills, [&] { return time_left(40); }))
            return 1;
    for (; seeds < most && time_left(100); ++seeds)
        for (const bool outlive : {false, true})
            if (!runner.good({.seed = first + seeds, .outlive = outlive}))
                return 1;
    std::printf("%llu seeds, each twice, and kill -9 at %llu steps of %llu more\n",
                static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(kills),
                static_cast<unsigned long long>(whole));
    return 0;
}

int survey(Settings settings, std::uint64_t count) {
    Runner runner;
    std::uint64_t failed = 0;
    const auto first = number("SIMULATION_FIRST", 1);
    for (settings.seed = first; settings.seed < first + count; ++settings.seed)
        if (auto outcome = runner.run(settings); !outcome.complaints.empty()) {
            ++failed;
            std::printf("%llu: %s\n", static_cast<unsigned long long>(settings.seed),
                        outcome.complaints.front().c_str());
            std::fflush(stdout);
        }
    std::printf("%llu of %llu seeds failed\n", static_cast<unsigned long long>(failed),
                static_cast<unsigned long long>(count));
    return failed == 0 ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
    Settings one;
    bool only_one = false;
    std::uint64_t surveyed = 0;
    for (int i = 1; i < argc; ++i) {
        auto value = [&] { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0; };
        if (std::strcmp(argv[i], "--survey") == 0) {
            surveyed = value();
        } else if (std::strcmp(argv[i], "--seed") == 0) {
            one.seed = value();
            only_one = true;
        } else if (std::strcmp(argv[i], "--kill-at") == 0) {
            one.kill_at = value();
        } else if (std::strcmp(argv[i], "--calm") == 0) {
            one.calm = true;
        } else if (std::strcmp(argv[i], "--outlive") == 0) {
            one.outlive = true;
        } else {
            std::printf("usage: %s [--survey N | --seed N [--kill-at STEP]] [--calm] [--outlive]\n",
                        argv[0]);
            return 2;
        }
    }
    if (surveyed != 0)
        return survey(one, surveyed);
    if (only_one)
        return Runner().show(one) ? 0 : 1;
    return run_all();
}
