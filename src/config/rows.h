// What rows of the schema are made with, and the sections that have files of their own. No door.
#pragma once

#include "config/codec.h"

namespace vmhost::config {

template <class Pointer>
struct OwnerOf;
template <class Struct, class Value>
struct OwnerOf<Value Struct::*> {
    using Type = Struct;
};

// A key that is a member of the section's struct.
template <auto member, class Codec>
constexpr Row row(std::string_view key, std::string_view default_note, std::string_view help) {
    using Struct = typename OwnerOf<decltype(member)>::Type;
    Row out{.key = key, .default_note = default_note, .help = help};
    out.required = default_note == "required";
    out.type = [] { return Codec::type(); };
    out.read = [](const Spot& spot, void* object) {
        Codec::read(spot, static_cast<Struct*>(object)->*member);
    };
    out.write = [](const void* object) {
        return Codec::write(static_cast<const Struct*>(object)->*member);
    };
    if constexpr (requires { Codec::inner; })
        out.inner = Codec::inner;
    return out;
}

// A table whose keys are members of the same struct.
template <const Section& section>
constexpr Row group(std::string_view key, std::string_view help) {
    Row out{.key = key, .default_note = "all defaults", .help = help};
    out.type = [] { return std::string("table"); };
    out.read = [](const Spot& spot, void* object) { read_section(spot, section, object); };
    out.write = [](const void* object) { return write_section(section, object); };
    out.inner = &section;
    return out;
}

template <class Struct>
constexpr Section section(std::string_view name, std::span<const Row> rows) {
    return {name, rows, [](const Section& self) {
                Struct object{};
                return write_section(self, &object);
            }};
}

extern const Section site_section, vm_site_section;

} // namespace vmhost::config
