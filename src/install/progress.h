// How far an unattended installation is, as the host sees it:
//
//   armed ─▶ lease ─▶ answers ─▶ sets ─▶ rebooted ─▶ booted ─▶ ssh
//     └────────┴─────────┴────────┴──▶ failed, by what the installer says on its console
//
// A phase may be skipped, as the host does not see everything, and none is come back to: the next
// installation begins anew. What a guest says is only looked at for fixed texts.
//
// Pure: what happened goes in, with its time; what is news comes out.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace vmhost::install {

// Numbers are part of the format of host.db.
enum class Phase : std::uint8_t {
    armed = 0,
    lease = 1,    // DHCP has told it its address
    answers = 2,  // its answer file was given out
    sets = 3,     // it has fetched or unpacked one
    rebooted = 4, // by itself
    booted = 5, // it has asked for its address again, or says that it waits for somebody to log in
    ssh = 6,    // its sshd says who it is
};
inline constexpr std::size_t phases = 7;
std::string_view name_of(Phase phase); // "lease"

struct Progress {
    std::array<std::optional<std::int64_t>, phases> since_s; // of each phase that was come to
    std::string failed;                                      // the installer's words, or none
    std::int64_t failed_s = 0;
    std::string set; // fetched or unpacked last
    std::uint64_t fetched_bytes = 0;
    std::uint64_t wanted_bytes = 0; // of all sets that it will fetch; 0 = nobody knows
    std::int64_t moved_s = 0;       // when something last went on
    bool stalled = false;

    Phase phase() const;
    bool over() const { return !failed.empty() || since_s[static_cast<std::size_t>(Phase::ssh)]; }
    // Of the sets, at most 100; nothing when nobody knows.
    std::optional<unsigned> percent() const;

    // True: it is news. Not when it is over, or was farther already.
    bool reached(Phase phase, std::int64_t now_s);
    bool fails(std::string_view words, std::int64_t now_s);
    // Bytes of a set went to it.
    bool fetched(std::string_view name, std::uint64_t bytes, std::int64_t now_s);
    bool unpacks(std::string_view name, std::int64_t now_s);
    // True: nothing has gone on for so long, for the first time.
    bool stalls(std::int64_t now_s, std::int64_t stall_s);

private:
    bool moved(std::int64_t now_s);
};

// What the console of an installer says, in pieces of any size.
class ConsoleReader {
public:
    struct Heard {
        std::vector<std::string> sets; // that are fetched or unpacked
        std::string failed;            // the line that ends it; empty = none
        bool login = false;            // a system waits for somebody to log in
        // What a medium that nobody prepared waits for: the keys that begin its installation, with
        // a return. Empty: nothing, or they were said already.
        std::string_view keys;
    };
    Heard read(Bytes text);

private:
    void read_line(Heard& heard);
    std::string_view keys_wanted();

    std::string line_; // so far, at most max_console_line_bytes of it
    bool begins_by_itself_ = false;
    bool line_has_keys_ = false;
    unsigned boot_prompts_ = 0;
    unsigned keys_said_ = 0;
};

// Whether a file is one of those that an installer may choose: "base78.tgz", "bsd.mp".
bool is_set(std::string_view name);

// Of the names, those that the installer fetches with this answer to "Set name(s)?".
std::vector<std::string> selected_sets(const std::vector<std::string>& names,
                                       std::string_view answer, bool several_processors);

} // namespace vmhost::install
