// The door of config/: TOML in, typed model out.
#pragma once

#include "config/model.h"

namespace vmhost::config {

// Everything that is wrong with a file, in the order of the file. Never empty on failure.
using Complaints = std::vector<Error>;

// Parses text; file is only for the complaints. All complaints are collected, so an
// operator mends a file in one go.
std::expected<Model, Complaints> parse(std::string_view text, const std::string& file);
// The same from a file (at most limits::max_config_bytes).
std::expected<Model, Complaints> load(const std::string& path);

// The model as TOML with every default written out; parse(print(m)) gives m again.
std::string print(const Model& model);
// The same as JSON text.
std::string print_json(const Model& model);

// One key that two models disagree on, defaults and derived values included. A whole switch or VM
// that only one of them has is one difference: "vm.a", without values.
struct Difference {
    enum class Kind : std::uint8_t { added, removed, changed };
    Kind kind = Kind::changed;
    std::string key;           // "vm.a.memory", "vm.a.disk[1].path"
    std::string before, after; // as TOML values, for people: secrets are not shown; empty = none
    Place place;               // of the key or the table around it, in the later file
};
// In the order of the schema and, within it, of the later file; what is gone comes last.
std::vector<Difference> differences(const Model& before, const Model& after);

// One row per key of the schema table: what vmhost.toml(5) and completion are checked against.
struct KeyDescription {
    std::string table; // "host", "switch.NAME", "vm.NAME.disk"
    std::string key;
    std::string type; // "size", "duration", "string", …
    std::string default_text;
    std::string help;
};
std::vector<KeyDescription> keys();

} // namespace vmhost::config
