// The door of config/: TOML in, typed model out.
#pragma once

#include <functional>

#include "config/model.h"

namespace vmhost::config {

// Everything that is wrong with a file, in the order of the file. Never empty on failure.
using Complaints = std::vector<Error>;

// Parses text; file is only for the complaints. All complaints are collected, so an
// operator mends a file in one go.
std::expected<Model, Complaints> parse(std::string_view text, const std::string& file);
// The same of what print() made of the model of a host. An order that was carried out in part
// leaves it between two files: what does not fit together is how the host is, and no complaint.
std::expected<Model, Complaints> parse_state(std::string_view text, const std::string& file);
// parse() of a file (at most limits::max_config_bytes).
std::expected<Model, Complaints> load(const std::string& path);

// What interfaces had before, by the name of their VM (store/, through host/).
struct Remembered {
    struct Interface {
        std::string vm;
        std::size_t index = 0;
        bool of_another = false; // VM of that name than the one in the model
        std::optional<Mac> lladdr;
        bool lladdr_given = false; // by the file: it has it from there or not at all
        std::string switch_name;   // of ipv4 and ipv6
        std::optional<Ipv4> ipv4;
        bool ipv4_given = false;
        std::optional<Ipv6> ipv6;
        bool ipv6_given = false;
        bool operator==(const Interface&) const = default;
    };
    std::vector<Interface> interfaces;
};
// A model as parse() made it, its derived addresses as they were. They are nobody else's while
// they are remembered; a file that gives one to another of its VMs is refused.
std::expected<Model, Complaints> recall(Model model, const Remembered& remembered);

// The model as TOML with every default written out; parse(print(m)) gives m again.
std::string print(const Model& model);
// The same as JSON text.
std::string print_json(const Model& model);

// A VM that is not in the file, as vmctl(8) start wishes it.
struct NewVm {
    std::string name;
    std::string parent; // the template; empty = none
    std::optional<Owner> owner;
    std::optional<std::uint64_t> memory_bytes;
    std::optional<std::string> boot, cdrom;
    std::vector<Disk> disks;
    std::vector<Interface> interfaces; // in place of the template's, by position
    std::size_t interfaces_min = 0;    // filled up with ones that are plugged into nothing
    bool anything_allowed = false;     // root's; else what the template's allow_instance says
};
// The model with that VM behind the others, checked as a file is, and with the switches of its
// local interfaces. Nobody else's addresses change. The error says which rule is in the way.
Result<Model> add_vm(const Model& model, const NewVm& wish, const Remembered& remembered = {});
// The model without it again.
void remove_vm(Model& model, std::string_view name);

// A vm.conf(5) of OpenBSD as the text of a vmhost.toml(5) that parse() accepts.
struct ImportOptions {
    // Of the command line: they win over those of the file.
    std::vector<std::pair<std::string, std::string>> macros;
    // A file and those that it includes.
    std::function<Result<std::string>(const std::string& path)> read;
};
struct Imported {
    std::string toml;
    std::vector<Error> warnings; // what it could not carry, which is a comment in the text too
};
std::expected<Imported, Complaints> import_vmconf(const std::string& path,
                                                  const ImportOptions& options);
// The same of a dhcpd.conf(5): subnets become switches, hosts with an address VMs that are not
// started.
std::expected<Imported, Complaints> import_dhcpdconf(const std::string& path,
                                                     const ImportOptions& options);
// The same of a _deploy.conf, as deploy scripts of OpenBSD hosts have it: an [allocate] table, and
// the host and switch that it tells of.
std::expected<Imported, Complaints> import_deployconf(const std::string& path,
                                                      const ImportOptions& options);
// The whole text of a file of at most limits::max_config_bytes.
Result<std::string> read_config_file(const std::string& path);

// Changes of a file's text that leave everything else as it was written, comments included. The
// text must be one that parse() takes; whoever calls them parses the result. unsupported: the file
// says it in a manner that they cannot change.
//
// Without [vm.NAME], the tables inside it, and the comments right above them.
Result<std::string> without_vm(std::string_view text, std::string_view vm);
// With another value, as TOML, of a key in a table that is there.
Result<std::string> with_key(std::string_view text, const std::vector<std::string>& table,
                             std::string_view key, std::string_view value);
// With further tables behind all others.
std::string with_tables(std::string_view text, std::string_view tables);
// The lines of a [vm.NAME.install] that says so; what is as in an empty one is left out.
std::string install_lines(const VmInstall& install);
// A text as TOML has it, in quotes.
std::string toml_text(std::string_view text);

// A TOML file of keys and values alone, such as an order: texts, numbers, booleans and dates, all
// as text.
struct FlatValue {
    std::string key, value;
    Place place;
};
Result<std::vector<FlatValue>> parse_flat(std::string_view text, const std::string& file);

// One key that two models disagree on, defaults and derived values included. A whole switch or VM
// that only one of them has is one difference: "vm.a", without values.
struct Difference {
    enum class Kind : std::uint8_t { added, removed, changed };
    Kind kind = Kind::changed;
    std::string key;               // "vm.a.memory", "vm.a.disk[1].path"
    std::vector<std::string> path; // its parts, as names may have dots: "vm", "a", "disk[1]", …
    std::size_t fingerprint = 0;   // of both values whole, secrets and tables too; never shown
    std::string before, after; // as TOML values, for people: secrets are not shown; empty = none
    Place place;               // of the key or the table around it, in the later file
};
// In the order of the schema and, within it, of the later file; what is gone comes last.
std::vector<Difference> differences(const Model& before, const Model& after);

// 128 bits, as they are read from left to right.
struct Uuid {
    std::uint64_t high = 0, low = 0;
    bool operator==(const Uuid&) const = default;
};
// Of a VM, by the names of its host and itself: the same whatever else changes (RFC 9562, version
// 8).
Uuid uuid_of(std::string_view host_name, std::string_view vm_name);

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
