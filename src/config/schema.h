// The schema: one row per key, in tables that mirror the file. A row knows its name, its
// help, and a codec that reads a TOML node into a member of the model (complaining on the
// way) and writes the member back as a JSON value. Everything else follows from the rows:
// parsing, unknown keys, defaults, print, print_json, keys().
//
// The rows themselves are in schema.cc, the codecs in codec.h.
#pragma once

#include <span>

#include <nlohmann/json.hpp>

#include "config/reader.h"

namespace vmhost::config {

// Keeps the order of its members; null means "not there".
using Json = nlohmann::ordered_json;

struct Section;

struct Row {
    std::string_view key;
    std::string_view default_note; // when the default is not simply a value, or there is none
    std::string_view help;
    bool required = false;
    std::string (*type)() = nullptr;
    // object is the struct that the section describes.
    void (*read)(const Spot& spot, void* object) = nullptr;
    Json (*write)(const void* object) = nullptr;
    const Section* inner = nullptr; // of tables, and of arrays of tables
};

struct Section {
    std::string_view name; // "vm.NAME.disk"; empty for the whole file
    std::span<const Row> rows;
    // The rows as a default-constructed object has them.
    Json (*defaults)(const Section& section);
};

void read_section(const Spot& spot, const Section& section, void* object);
Json write_section(const Section& section, const void* object);

// A value as it stands in TOML, on one line.
std::string value_text(const Json& value);

// The whole file; its object is a Model.
extern const Section file_section;

} // namespace vmhost::config
