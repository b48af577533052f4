// The model as text. The schema writes it as one tree of JSON values; TOML is that tree
// with a header for each table inside it. The order is that of the schema and, for
// switches and VMs, of the file, so equal models print equal texts.
#include <algorithm>

#include "config/schema.h"
#include "config/toml_text.h"

namespace vmhost::config {

std::string quoted_text(std::string_view text) {
    std::string out = "\"";
    for (char c : text) {
        auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\')
            out += fmt::format("\\{}", c);
        else if (byte < 0x20 || byte == 0x7f)
            out += fmt::format("\\u{:04x}", byte);
        else
            out += c;
    }
    return out + '"';
}

std::string key_text(std::string_view key) {
    for (char c : key)
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-'))
            return quoted_text(key);
    return key.empty() ? quoted_text(key) : std::string(key);
}

namespace {

bool is_tables(const Json& value) {
    // An array of texts and tables stands on one line.
    return value.is_object() ||
           (value.is_array() && !value.empty() &&
            std::ranges::all_of(value, [](const Json& element) { return element.is_object(); }));
}

void print_table(const Json& table, const std::string& name, std::string_view header,
                 std::string& out) {
    std::string lines;
    for (const auto& [key, value] : table.items())
        if (!is_tables(value))
            lines += fmt::format("{} = {}\n", key_text(key), value_text(value));
    if (!lines.empty())
        out += fmt::format("{}{}{}", out.empty() ? "" : "\n", header, lines);
    for (const auto& [key, value] : table.items()) {
        if (!is_tables(value))
            continue;
        auto inner = name.empty() ? key_text(key) : fmt::format("{}.{}", name, key_text(key));
        if (value.is_object())
            print_table(value, inner, fmt::format("[{}]\n", inner), out);
        else
            for (const auto& element : value)
                print_table(element, inner, fmt::format("[[{}]]\n", inner), out);
    }
}

} // namespace

std::string value_text(const Json& value) {
    if (value.is_string())
        return quoted_text(value.get_ref<const std::string&>());
    if (value.is_object()) {
        std::string out = "{";
        for (const auto& [key, member] : value.items())
            out += fmt::format("{}{} = {}", out.size() > 1 ? ", " : " ", key_text(key),
                               value_text(member));
        return out + " }";
    }
    if (!value.is_array())
        return value.dump(); // numbers and booleans look the same in both
    std::string out = "[";
    for (const auto& element : value)
        out += (out.size() > 1 ? ", " : "") + value_text(element);
    return out + "]";
}

std::string print(const Model& model) {
    std::string out;
    print_table(write_section(file_section, &model), "", "", out);
    return out;
}

std::string print_json(const Model& model) {
    return write_section(file_section, &model).dump(4, ' ', false, Json::error_handler_t::replace) +
           "\n";
}

} // namespace vmhost::config
