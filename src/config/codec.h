// How a value of each type is read from TOML and written back. A codec is a type with
//   type()           what vmhost.toml(5) calls it
//   read(spot, out)  fills out, or complains at the spot and leaves it alone
//   write(value)     the same value as JSON; null when there is nothing to say
#pragma once

#include "config/rules.h"
#include "config/schema.h"

namespace vmhost::config {

// A string of bounded length without control characters, or a complaint.
std::optional<std::string> read_text(const Spot& spot, std::string_view expectation);

template <const TextRule& rule>
struct Text {
    static std::string type() { return std::string(rule.type); }
    static void read(const Spot& spot, std::string& out) {
        spot.note(&out);
        auto text = read_text(spot, rule.example);
        if (!text)
            return;
        if (text->empty() && !rule.may_be_empty)
            return spot.complain(fmt::format("expected {}, got an empty string", rule.example));
        if (!text->empty())
            if (auto good = rule.check(*text); !good)
                return spot.complain(good.error().text(), good.error().kind());
        out = *std::move(text);
    }
    static Json write(const std::string& value) { return value; }
};

// Text with a parser and a printer of its own.
template <auto parse, auto print, const TextRule& rule>
struct Parsed {
    static std::string type() { return std::string(rule.type); }
    template <class Value>
    static void read(const Spot& spot, Value& out) {
        spot.note(&out);
        auto text = read_text(spot, rule.example);
        if (!text)
            return;
        auto value = parse(*text);
        if (!value)
            return spot.complain(value.error().text(), value.error().kind());
        out = *std::move(value);
        if constexpr (requires { out.place; })
            out.place = spot.place();
    }
    template <class Value>
    static Json write(const Value& value) {
        return print(value);
    }
};

struct Flag {
    static std::string type() { return "boolean"; }
    static void read(const Spot& spot, bool& out);
    static Json write(bool value) { return value; }
};

// Nothing = this host decides.
struct AutoFlag {
    static std::string type() { return "\"auto\" | boolean"; }
    static void read(const Spot& spot, std::optional<bool>& out);
    static Json write(std::optional<bool> value) { return value ? Json(*value) : Json("auto"); }
};

template <unsigned min, unsigned max>
struct Count {
    static std::string type() { return fmt::format("number, {} to {}", min, max); }
    static void read(const Spot& spot, unsigned& out) {
        spot.note(&out);
        auto* number = spot.node.as_integer();
        if (!number)
            return spot.expected(fmt::format("a number from {} to {}", min, max));
        if (number->get() < min || number->get() > max)
            return spot.complain(
                fmt::format("expected a number from {} to {}, got {}", min, max, number->get()),
                ErrorKind::limit);
        out = static_cast<unsigned>(number->get());
    }
    static Json write(unsigned value) { return value; }
};

// "512M" or a number of bytes, rounded down to whole MiB as vmctl(8) does.
std::optional<std::uint64_t> read_size(const Spot& spot, std::uint64_t min, std::uint64_t max);
template <std::uint64_t min, std::uint64_t max>
struct Size {
    static std::string type() { return "size"; }
    static void read(const Spot& spot, std::uint64_t& out) {
        spot.note(&out);
        if (auto size = read_size(spot, min, max))
            out = *size;
    }
    static Json write(std::uint64_t value);
};
template <std::uint64_t min, std::uint64_t max>
Json Size<min, max>::write(std::uint64_t value) {
    auto text = exact_size(value);
    return text.back() >= '0' && text.back() <= '9' ? Json(value) : Json(text);
}

// With a unit; at least min_ms and at most max_ms, in whole steps of step_ms.
std::optional<std::chrono::milliseconds> read_duration(const Spot& spot, std::int64_t min_ms,
                                                       std::int64_t step_ms, std::int64_t max_ms);
template <std::int64_t min_ms, std::int64_t step_ms, std::int64_t max_ms = limits::max_duration_ms>
struct Duration {
    static std::string type() { return "duration"; }
    static void read(const Spot& spot, std::chrono::milliseconds& out) {
        spot.note(&out);
        if (auto duration = read_duration(spot, min_ms, step_ms, max_ms))
            out = *duration;
    }
    static Json write(std::chrono::milliseconds value) { return format_duration(value); }
};

// One of a few words. A value without a word is written as nothing: it is what the
// absence of the key means.
struct Word {
    std::string_view text;
    int value;
};
std::optional<int> read_word(const Spot& spot, std::span<const Word> words);
template <const auto& words>
struct Choice {
    static std::string type() {
        std::string out;
        for (const Word& word : words)
            out += fmt::format("{}\"{}\"", out.empty() ? "" : " | ", word.text);
        return out;
    }
    template <class Enum>
    static void read(const Spot& spot, Enum& out) {
        spot.note(&out);
        if (auto value = read_word(spot, words))
            out = static_cast<Enum>(*value);
    }
    template <class Enum>
    static Json write(Enum value) {
        for (const Word& word : words)
            if (word.value == static_cast<int>(value))
                return word.text;
        return nullptr;
    }
};

template <class Codec>
struct Optional {
    static std::string type() { return Codec::type(); }
    template <class Value>
    static void read(const Spot& spot, std::optional<Value>& out) {
        Value value{};
        auto before = spot.findings.count();
        Codec::read(spot, value);
        spot.note(&out);
        if (spot.findings.count() == before)
            out = std::move(value);
    }
    template <class Value>
    static Json write(const std::optional<Value>& value) {
        return value ? Codec::write(*value) : Json(nullptr);
    }
};

// A name or nothing: empty is written as nothing.
template <class Codec>
struct OrNone : Codec {
    static Json write(const std::string& value) {
        return value.empty() ? Json(nullptr) : Codec::write(value);
    }
};

// What vm.conf(5) can say and this build cannot do: read and checked, but anything other than the
// default is refused, because a guest without it is not the guest that was asked for.
template <class Codec, const char* const& missing>
struct NotYet : Codec {
    template <class Value>
    static void read(const Spot& spot, Value& out) {
        const Value usual = out;
        auto before = spot.findings.count();
        Codec::read(spot, out);
        if (spot.findings.count() == before && out != usual)
            spot.complain(missing, ErrorKind::unsupported);
        out = usual;
    }
};

// An array of scalars, each at most once.
const toml::array* read_array(const Spot& spot, std::string_view type, std::size_t max);
template <class Codec, std::size_t max>
struct List {
    static std::string type() { return fmt::format("array of {}", Codec::type()); }
    template <class Value>
    static void read(const Spot& spot, std::vector<Value>& out) {
        spot.note(&out);
        auto* array = read_array(spot, Codec::type(), max);
        if (!array)
            return;
        std::vector<Value> values;
        values.reserve(array->size());
        for (std::size_t i = 0; i < array->size(); ++i) {
            Path path{&spot.path, {}, i};
            const auto& node = *array->get(i);
            Spot element{spot.findings, path, node, node.source().begin};
            Value value{};
            auto before = spot.findings.count();
            Codec::read(element, value);
            if (spot.findings.count() != before)
                continue;
            if (std::find(values.begin(), values.end(), value) != values.end())
                element.complain("is in the list already");
            else
                values.push_back(std::move(value));
        }
        out = std::move(values);
        for (std::size_t i = 0; i < out.size() && out.size() == array->size(); ++i)
            spot.findings.note(&out[i], array->get(i)->source().begin);
    }
    template <class Value>
    static Json write(const std::vector<Value>& values) {
        Json out = Json::array();
        for (const auto& value : values)
            out.push_back(Codec::write(value));
        return out;
    }
};

// One, or an array of them. None is written as nothing.
template <class Codec, std::size_t max>
struct OneOrMore : List<Codec, max> {
    static std::string type() { return fmt::format("{0} or array of {0}", Codec::type()); }
    template <class Value>
    static void read(const Spot& spot, std::vector<Value>& out) {
        if (spot.node.is_array())
            return List<Codec, max>::read(spot, out);
        out.resize(1);
        Codec::read(spot, out.front());
        spot.note(&out);
    }
    template <class Value>
    static Json write(const std::vector<Value>& values) {
        if (values.size() > 1)
            return List<Codec, max>::write(values);
        return values.empty() ? Json(nullptr) : Codec::write(values.front());
    }
};

template <const Section& section>
struct Table {
    static constexpr const Section* inner = &section;
    static std::string type() { return "table"; }
    template <class Value>
    static void read(const Spot& spot, Value& out) {
        read_section(spot, section, &out);
    }
    template <class Value>
    static void read(const Spot& spot, std::optional<Value>& out) {
        read_section(spot, section, &out.emplace());
    }
    template <class Value>
    static Json write(const Value& value) {
        return write_section(section, &value);
    }
    template <class Value>
    static Json write(const std::optional<Value>& value) {
        return value ? write_section(section, &*value) : Json(nullptr);
    }
};

template <const Section& section, std::size_t max>
struct Tables {
    static constexpr const Section* inner = &section;
    static std::string type() { return "array of tables"; }
    template <class Value>
    static void read(const Spot& spot, std::vector<Value>& out) {
        auto* array = read_array(spot, "tables", max);
        if (!array)
            return;
        // Before any place is noted: see reader.h. An instance keeps what its template has at
        // positions that it does not name.
        out.resize(std::max(out.size(), array->size()));
        for (std::size_t i = 0; i < array->size(); ++i) {
            Path path{&spot.path, {}, i};
            const auto& node = *array->get(i);
            Spot element{spot.findings, path, node, node.source().begin};
            out[i] = Value{};
            out[i].place = element.place();
            spot.findings.note_key(path.text(), element.place());
            read_section(element, section, &out[i]);
        }
    }
    template <class Value>
    static Json write(const std::vector<Value>& values) {
        Json out = Json::array();
        for (const auto& value : values)
            out.push_back(write_section(section, &value));
        return out.empty() ? Json(nullptr) : out;
    }
};

// [switch.NAME], [vm.NAME]: in the order of the file.
std::vector<Member> read_named(const Spot& spot, const Section& section, std::size_t max);
template <const Section& section, std::size_t max>
struct Named {
    static constexpr const Section* inner = &section;
    static std::string type() { return "named tables"; }
    template <class Value>
    static void read(const Spot& spot, std::vector<Value>& out) {
        auto members = read_named(spot, section, max);
        out.resize(members.size()); // before any place is noted: see reader.h
        for (std::size_t i = 0; i < members.size(); ++i) {
            Path path{&spot.path, members[i].key->str()};
            Spot table{spot.findings, path, *members[i].node, members[i].key->source().begin};
            out[i].place = table.key_place();
            out[i].name = members[i].key->str();
            spot.findings.note_key(path.text(), table.key_place());
            read_section(table, section, &out[i]);
        }
    }
    template <class Value>
    static Json write(const std::vector<Value>& values) {
        Json out = Json::object();
        for (const auto& value : values) {
            if constexpr (requires { value.local; })
                if (value.local)
                    continue; // derived: it has no table
            out[value.name] = write_section(section, &value);
        }
        return out;
    }
};

// [vm.NAME], where one begins with what it has from another: see instance.cc.
void read_vms(const Spot& spot, const Section& section, std::vector<Vm>& out);
template <const Section& section>
struct Vms : Named<section, limits::max_vms> {
    static void read(const Spot& spot, std::vector<Vm>& out) { read_vms(spot, section, out); }
};

// [switch.NAME.dhcp.options]: what each is, dhcp_options.h knows.
struct DhcpOptions {
    static std::string type() { return "table of DHCP options"; }
    static void read(const Spot& spot, std::vector<DhcpOption>& out);
    static Json write(const std::vector<DhcpOption>& options);
};

// A table whose keys are the operator's own.
struct Answers {
    using Pairs = std::vector<std::pair<std::string, std::string>>;
    static std::string type() { return "table of strings"; }
    static void read(const Spot& spot, Pairs& out);
    static Json write(const Pairs& pairs);
};

} // namespace vmhost::config
