// Why a VM has the id, the addresses, the owner … that it has: each with where it comes from.
//
// From values only: the daemon asks about what runs, vmhost(8) without one about a file and what
// the store has.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "store/store.h"

namespace vmhost::host {

struct Fact {
    enum class Source : std::uint8_t {
        file,          // place
        from_template, // place, in the table of the VM that text names
        standard,      // the default
        derived,       // by the rule in text
        remembered,    // since since_s, in host.db; text: how it came to be
        command,       // of vmctl start; text: whose
        host,          // it is so now
        unknown,       // text: why
    };
    std::string what; // "id", "interface[0].ipv4"
    std::string value;
    Source source = Source::unknown;
    Place place = {};
    std::int64_t since_s = 0;
    std::string text = {};
};
std::string_view name_of(Fact::Source source);

// What only the daemon knows.
struct RunningVm {
    std::uint32_t id = 0;
    std::optional<std::uint32_t> uid; // of its process; none: that of the daemon
    std::string state;
    std::string lease;
    std::optional<std::uint32_t> maker; // of one that is not in the file
};

// What is known beside the model.
struct Knowledge {
    std::optional<store::Machine> stored;
    std::string not_stored_because; // why there is no stored; empty: it is new
    std::optional<RunningVm> running;
};

std::vector<Fact> explain(const config::Model& model, const config::Vm& vm,
                          const Knowledge& knowledge);
// An array of objects; print_facts makes a table of it.
std::string json_of(const std::vector<Fact>& facts);

} // namespace vmhost::host
