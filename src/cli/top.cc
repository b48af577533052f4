// vmctl top: what the VMs do, again and again. On a terminal a table that is drawn anew and
// listens to keys; elsewhere the same table one below the other, or JSON, an object a line.
//
// The daemon is asked for sums (status with counters); rates are made here, so that any number of
// people may look at any intervals.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli/asking.h"
#include "cli/rates.h"

namespace vmhost::cli {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

namespace {

volatile std::sig_atomic_t told_to_end = 0, size_changed = 0;

// A screen of its own, keys as they are typed; as before when it goes.
class Screen {
public:
    Screen() {
        if (::isatty(STDOUT_FILENO) == 0 || ::tcgetattr(STDIN_FILENO, &before_) != 0)
            return;
        active_ = true;
        auto keys = before_;
        keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
        keys.c_cc[VMIN] = 0;
        keys.c_cc[VTIME] = 0;
        ::tcsetattr(STDIN_FILENO, TCSANOW, &keys);
        struct sigaction action {};
        action.sa_handler = [](int) { told_to_end = 1; }; // no SA_RESTART: poll comes back
        for (int number : {SIGINT, SIGTERM, SIGHUP})
            ::sigaction(number, &action, nullptr);
        action.sa_handler = [](int) { size_changed = 1; };
        ::sigaction(SIGWINCH, &action, nullptr);
        std::fputs("\033[?1049h\033[?25l", stdout);
    }
    ~Screen() {
        if (!active_)
            return;
        std::fputs("\033[?25h\033[?1049l", stdout);
        std::fflush(stdout);
        ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
    }
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;
    bool active() const { return active_; }

private:
    termios before_{};
    bool active_ = false;
};

class Top {
public:
    Top(control::Client& client, const Command& command)
        : client_(client), command_(command), screen_(),
          interval_(static_cast<std::int64_t>(command.interval_s * 1e9)) {}

    Result<void> run() {
        TRY(look());
        next_ = Clock::now() + interval_;
        if (screen_.active())
            draw(); // with rates from the next look on
        for (unsigned shown = 0; !told_to_end && (command_.count == 0 || shown < command_.count);) {
            if (!wait())
                return {};
            if (Clock::now() < next_)
                continue;
            TRY(look());
            next_ = std::max(next_ + interval_, Clock::now());
            ++shown;
            show();
            if (std::ferror(stdout))
                return fail_errno(errno, "top: standard output");
        }
        return {};
    }

private:
    Result<void> look() {
        auto reply = TRY(ask(client_, {{"verb", "status"}, {"counters", true}}));
        auto now = Clock::now();
        std::vector<Sample> samples;
        for (const auto& row : reply["vms"])
            samples.push_back(sample_of(row));
        const std::chrono::duration<double> passed = now - looked_;
        seconds_ = looked_ == Clock::time_point{} ? 0 : passed.count();
        constexpr double shortest_s = 1e-3;
        // The first time nothing is known of what was before.
        rates_ = rates_between(seconds_ == 0 ? samples : samples_, samples,
                               std::max(seconds_, shortest_s));
        samples_ = std::move(samples);
        looked_ = now;
        return {};
    }

    // Until the next look, or a key; false = that was enough.
    bool wait() {
        auto left = std::chrono::ceil<std::chrono::milliseconds>(next_ - Clock::now());
        pollfd keys{screen_.active() ? STDIN_FILENO : -1, POLLIN, 0};
        auto ready = ::poll(&keys, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
        if (std::exchange(size_changed, 0))
            draw();
        if (ready <= 0 || told_to_end)
            return !told_to_end;
        char typed[64];
        auto count = ::read(STDIN_FILENO, typed, sizeof typed);
        if (count <= 0)
            return count < 0 && (errno == EINTR || errno == EAGAIN); // the terminal is gone
        for (ssize_t i = 0; i < count; ++i) {
            if (typed[i] == 'q')
                return false;
            if (auto order = top_order_of(typed[i]))
                order_ = *order;
            if (typed[i] == ' ')
                next_ = Clock::now();
        }
        draw();
        return true;
    }

    void show() {
        if (command_.json)
            print_json();
        else if (screen_.active())
            draw();
        else
            print();
        std::fflush(stdout);
    }

    void print_json() {
        auto vms = json::array();
        for (const auto& one : rates_)
            vms.push_back(as_json(one));
        std::printf("%s\n", compact({{"interval_s", seconds_}, {"vms", vms}}).c_str());
    }

    void print() {
        sort_rates(rates_, order_);
        std::printf("%s\n%s\n", top_summary(rates_).c_str(), top_head().c_str());
        for (const auto& one : rates_)
            std::printf("%s\n", top_row(one).c_str());
        std::putchar('\n');
    }

    void draw() {
        winsize size{};
        if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
            size = {.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
        sort_rates(rates_, order_);
        std::vector<std::string> lines{
            top_summary(rates_),
            fmt::format("by {}; c CPU, m memory, d disk, n network, N name, q quit",
                        name_of(order_)),
            top_head()};
        for (const auto& one : rates_)
            lines.push_back(top_row(one));
        if (lines.size() > size.ws_row) {
            auto hidden = lines.size() - size.ws_row + 1;
            lines.resize(size.ws_row - 1U);
            lines.push_back(fmt::format("… and {} more", hidden));
        }
        std::string screen = "\033[H";
        for (std::size_t i = 0; i < lines.size(); ++i) {
            screen += i == 0 ? "" : "\r\n";
            screen += lines[i].substr(0, size.ws_col) + "\033[K";
        }
        screen += "\033[J";
        std::fwrite(screen.data(), 1, screen.size(), stdout);
        std::fflush(stdout);
    }

    control::Client& client_;
    const Command& command_;
    Screen screen_;
    std::chrono::nanoseconds interval_;
    TopOrder order_ = TopOrder::cpu;
    Clock::time_point looked_{}, next_{};
    double seconds_ = 0;
    std::vector<Sample> samples_;
    std::vector<Rates> rates_;
};

} // namespace

int run_top(control::Client& client, const Command& command) {
    auto done = Top(client, command).run(); // the screen is as before, then there may be words
    return done ? 0 : complain(done.error());
}

} // namespace vmhost::cli
