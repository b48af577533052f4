// Text to model, in four steps: toml++ takes the text apart, the schema reads the tree
// into a model, defaults and checks see the whole, and addresses are assigned. Only a
// syntax error ends it early: toml++ cannot go on behind one.
//
// The text is the operator's, but a mistake must never end the program: toml++ bounds
// nested values itself (see toml.h) but not the parts of a dotted key, so those are
// counted beforehand.
#include <algorithm>

#include <fcntl.h>
#include <unistd.h>

#include "config/assign.h"
#include "config/schema.h"

namespace vmhost::config {

namespace {

// Walks over TOML text just well enough to know keys from strings and comments.
class KeyPartCounter {
public:
    explicit KeyPartCounter(std::string_view text) : text_(text) {}

    // The place of the first key with more than max parts.
    std::optional<toml::source_position> exceeds(std::size_t max) {
        std::size_t dots = 0;
        while (at_ < text_.size()) {
            char c = text_[at_];
            if (c == '"' || c == '\'') {
                skip_string(c);
                continue;
            }
            if (c == '#') {
                at_ = std::min(text_.find('\n', at_), text_.size());
                continue;
            }
            if (c == '.' && ++dots >= max)
                return toml::source_position{line_, static_cast<std::uint32_t>(at_ - begin_ + 1)};
            if (c == '=' || c == ',' || c == '[' || c == ']' || c == '{' || c == '}' || c == '\n')
                dots = 0;
            step();
        }
        return {};
    }

private:
    void step() {
        if (text_[at_++] == '\n') {
            ++line_;
            begin_ = at_;
        }
    }
    void skip(std::size_t count) {
        while (count-- > 0 && at_ < text_.size())
            step();
    }
    bool here(std::string_view what) const { return text_.substr(at_).starts_with(what); }

    void skip_string(char quote) {
        const std::string three(3, quote);
        const bool lines = here(three);
        skip(lines ? 3 : 1);
        while (at_ < text_.size()) {
            if (quote == '"' && text_[at_] == '\\') {
                skip(2);
            } else if (lines ? here(three) : text_[at_] == quote) {
                // Up to two quotes may stand before the closing three.
                skip(lines ? 3 : 1);
                for (int extra = 0; lines && extra < 2 && at_ < text_.size(); ++extra)
                    if (text_[at_] == quote)
                        step();
                return;
            } else if (!lines && text_[at_] == '\n') {
                return; // toml++ complains here
            } else {
                step();
            }
        }
    }

    std::string_view text_;
    std::size_t at_ = 0;
    std::size_t begin_ = 0; // of the line
    std::uint32_t line_ = 1;
};

// toml++ writes sentences and quotes the file raw.
std::string syntax_text(std::string_view description) {
    std::string out;
    for (char c : description.substr(0, 400))
        out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    if (out.size() > 1 && out[0] >= 'A' && out[0] <= 'Z' && out[1] >= 'a' && out[1] <= 'z')
        out[0] = static_cast<char>(out[0] - 'A' + 'a');
    while (out.ends_with('.'))
        out.pop_back();
    return out.empty() ? "not TOML" : out;
}

Complaints one(Error error) {
    Complaints complaints;
    complaints.push_back(std::move(error));
    return complaints;
}

// Whether toml++ breaks on the first lines of the text.
bool breaks(std::string_view text) {
    try {
        (void)toml::parse(text);
    } catch (const toml::parse_error&) {
    } catch (const TomlBroke&) {
        return true;
    }
    return false;
}

// toml++ reads forward, so it breaks on every beginning of the text that has the bad line,
// and on none without it.
std::uint32_t line_that_breaks(std::string_view text) {
    std::vector<std::size_t> ends; // of each line
    for (std::size_t at = 0; at < text.size(); at = ends.back())
        ends.push_back(std::min(text.find('\n', at), text.size() - 1) + 1);
    auto bad = std::partition_point(ends.begin(), ends.end(),
                                    [&](std::size_t end) { return !breaks(text.substr(0, end)); });
    return static_cast<std::uint32_t>(bad - ends.begin()) + 1;
}

Result<toml::table> parse_toml(std::string_view text, const Findings& findings) {
    if (auto place = KeyPartCounter(text).exceeds(limits::max_key_parts))
        return std::unexpected(Error(ErrorKind::limit, fmt::format("a key has at most {} parts",
                                                                   limits::max_key_parts))
                                   .at(findings.place(*place)));
    try {
        return toml::parse(text);
    } catch (const toml::parse_error& problem) {
        return std::unexpected(Error(ErrorKind::invalid, syntax_text(problem.description()))
                                   .at(findings.place(problem.source().begin)));
    } catch (const TomlBroke&) {
        return std::unexpected(Error(ErrorKind::invalid, "this line is not TOML")
                                   .at(findings.place({line_that_breaks(text), 1})));
    }
}

std::expected<Model, Complaints> read(std::string_view text, const std::string& file,
                                      bool fits_together) {
    if (text.size() > limits::max_config_bytes)
        return std::unexpected(
            one(Error(ErrorKind::limit,
                      fmt::format("a configuration has at most {} bytes", limits::max_config_bytes))
                    .at({file, 0, 0})));
    Findings findings(file);
    auto tree = parse_toml(text, findings);
    if (!tree)
        return std::unexpected(one(std::move(tree).error()));

    Model model;
    model.file = file;
    read_section(Spot{findings, Path{}, *tree, {1, 1}}, file_section, &model);
    fill_defaults(model, findings);
    if (fits_together)
        check_model(model, findings);
    assign_addresses(model, findings);
    if (auto complaints = findings.take(); !complaints.empty())
        return std::unexpected(std::move(complaints));
    model.places = findings.take_keys();
    return model;
}

} // namespace

std::expected<Model, Complaints> parse(std::string_view text, const std::string& file) {
    return read(text, file, true);
}

std::expected<Model, Complaints> parse_state(std::string_view text, const std::string& file) {
    return read(text, file, false);
}

Result<std::vector<FlatValue>> parse_flat(std::string_view text, const std::string& file) {
    Findings findings(file);
    auto tree = TRY(parse_toml(text, findings));
    std::vector<FlatValue> out;
    for (const Member& member : in_file_order(tree)) {
        FlatValue value{
            std::string(member.key->str()), {}, findings.place(member.key->source().begin)};
        const auto& node = *member.node;
        if (const auto* string = node.as_string())
            value.value = string->get();
        else if (const auto* number = node.as_integer())
            value.value = std::to_string(number->get());
        else if (const auto* flag = node.as_boolean())
            value.value = flag->get() ? "true" : "false";
        else if (const auto* date = node.as_date())
            value.value = fmt::format("{:04}-{:02}-{:02}", date->get().year, date->get().month,
                                      date->get().day);
        else
            return std::unexpected(
                Error(ErrorKind::invalid,
                      fmt::format("{}: expected a text, a number, a boolean or a date",
                                  printable(value.key, 70)))
                    .at(value.place));
        out.push_back(std::move(value));
    }
    return out;
}

Result<std::string> read_config_file(const std::string& path) {
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd)
        return fail_errno(errno, "cannot open \"{}\"", printable(path));
    std::string text;
    char buffer[65536];
    while (text.size() <= limits::max_config_bytes) {
        auto count = ::read(fd.get(), buffer, sizeof(buffer));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(errno, "cannot read \"{}\"", printable(path));
        if (count == 0)
            break;
        text.append(buffer, static_cast<std::size_t>(count));
    }
    return text; // parse() refuses one that is too long
}

std::expected<Model, Complaints> load(const std::string& path) {
    auto text = read_config_file(path);
    if (!text)
        return std::unexpected(one(std::move(text).error()));
    return parse(*text, path);
}

} // namespace vmhost::config
