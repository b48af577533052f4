// The rows of [install.site] and [vm.NAME.install.site].
#include "config/rows.h"

#include <algorithm>
#include <charconv>

namespace vmhost::config {

namespace {

// Lines of text, as they are.
struct Lines {
    static std::string type() { return "string"; }
    static void read(const Spot& spot, std::string& out) {
        spot.note(&out);
        auto* text = spot.node.as_string();
        if (text == nullptr)
            return spot.expected("a string, of several lines perhaps");
        if (text->get().size() > limits::max_site_text_bytes)
            return spot.complain(fmt::format("a text has at most {} bytes, this one has {}",
                                             limits::max_site_text_bytes, text->get().size()),
                                 ErrorKind::limit);
        for (char c : text->get())
            if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
                return spot.complain("a control character other than a line feed or a tab");
        out = text->get();
    }
    static Json write(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }
};

// As chmod(1) has it; a string, as a number of TOML would be decimal.
Result<unsigned> parse_mode(std::string_view text) {
    unsigned mode = 0;
    auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
    if (text.size() < 3 || problem != std::errc() || end != text.data() + text.size() ||
        mode > 07777)
        return fail(ErrorKind::invalid, "\"{}\" is no mode such as \"0644\"", printable(text, 20));
    return mode;
}
std::string mode_text(unsigned mode) {
    return fmt::format("{:04o}", mode);
}
constexpr TextRule mode_rule{"mode", "a mode such as \"0644\"", nullptr};

// In the guest, beneath its root.
Result<void> check_guest_path(std::string_view path) {
    auto bad = [&] {
        return fail(ErrorKind::invalid, "\"{}\" is no path such as \"etc/doas.conf\"",
                    printable(path, 100));
    };
    if (path.size() > limits::max_site_path_bytes || path.ends_with('/'))
        return bad();
    for (auto rest = path; !rest.empty();) {
        auto part = rest.substr(0, rest.find('/'));
        rest.remove_prefix(std::min(part.size() + 1, rest.size()));
        if (part.empty() || part == "." || part == ".." || part.size() > 100)
            return bad();
    }
    return {};
}
const TextRule guest_path_rule{"path", "a path such as \"etc/doas.conf\", without a slash in front",
                               check_guest_path};

// "name = value" lines of a file.
struct Settings {
    using Pairs = std::vector<std::pair<std::string, std::string>>;
    static std::string type() { return "table of strings"; }
    static void read(const Spot& spot, Pairs& out) {
        auto* table = spot.node.as_table();
        if (table == nullptr)
            return spot.expected("a table such as { \"kern.timecounter.hardware\" = \"tsc\" }");
        for (const Member& member : in_file_order(*table)) {
            std::string name(member.key->str());
            Path path{&spot.path, name};
            Spot value{spot.findings, path, *member.node, member.key->source().begin};
            spot.findings.note_key(path.text(), value.key_place());
            const bool good =
                !name.empty() && name.size() <= 100 && std::ranges::all_of(name, [](char c) {
                    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
                });
            if (!good)
                value.complain("a name is of letters, digits, \".\", \"_\" and \"-\"");
            if (out.size() == limits::max_site_settings)
                return value.complain(
                    fmt::format("there may be at most {}", limits::max_site_settings),
                    ErrorKind::limit);
            std::string text;
            Text<line_rule>::read(value, text);
            out.emplace_back(std::move(name), std::move(text));
        }
    }
    static Json write(const Pairs& pairs) {
        Json out = Json::object();
        for (const auto& [name, value] : pairs)
            out[name] = value;
        return out.empty() ? Json(nullptr) : out;
    }
};

constexpr Row site_file_rows[] = {
    row<&SiteFile::path, Text<guest_path_rule>>("path", "required", "where it is in the guest"),
    row<&SiteFile::source, OrNone<Text<absolute_path_rule>>>("source", "none",
                                                             "a file of this host"),
    row<&SiteFile::content, Lines>("content", "none", "what is in it, in place of source"),
    row<&SiteFile::owner, Count<0, limits::max_site_id>>("owner", "", "number of the user"),
    row<&SiteFile::group, Count<0, limits::max_site_id>>("group", "", "number of the group"),
    row<&SiteFile::mode, Parsed<parse_mode, mode_text, mode_rule>>("mode", "",
                                                                   "who may do what with it"),
};
constexpr Section site_file_section = section<SiteFile>("install.site.files", site_file_rows);
constexpr Section vm_site_file_section =
    section<SiteFile>("vm.NAME.install.site.files", site_file_rows);

template <const Section& files>
struct Rows {
    static constexpr Row rows[] = {
        row<&Site::installurl, OrNone<Text<mirror_rule>>>("installurl", "none",
                                                          "where the guest's packages come from"),
        row<&Site::sysctl, Settings>("sysctl", "none", "lines of /etc/sysctl.conf"),
        row<&Site::rc_conf_local, Settings>("rc_conf_local", "none", "lines of /etc/rc.conf.local"),
        row<&Site::install_site, Lines>("install_site", "none",
                                        "what runs at the end, or the path of it on this host"),
        row<&Site::files, Tables<files, limits::max_site_files>>("files", "none", "further files"),
    };
};

} // namespace

constexpr Section site_section = section<Site>("install.site", Rows<site_file_section>::rows);
constexpr Section vm_site_section =
    section<Site>("vm.NAME.install.site", Rows<vm_site_file_section>::rows);

} // namespace vmhost::config
