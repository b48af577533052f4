// One line at a time. Where in its line a variable stands, inside quotes or not, is found out from
// what is before it on the line. That may be wrong, in a block of shell that quotes across lines:
// hence a value in quotes may not hold what would do harm without them, except in YAML, whose
// quotes are sure where they begin a value. What a block of YAML holds ("|", ">") is taken for
// shell, as it often is.

#include "install/template.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace vmhost::install {

namespace {

enum class Quotes : std::uint8_t { none, single, twofold };

constexpr std::string_view alphanumeric =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

bool consists_of(std::string_view value, std::string_view more) {
    return std::ranges::all_of(value, [&](char c) {
        return alphanumeric.find(c) != std::string_view::npos ||
               more.find(c) != std::string_view::npos;
    });
}

bool is_printable(std::string_view value) {
    return std::ranges::all_of(
        value, [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; });
}

bool is_ascii(std::string_view value) {
    return is_printable(value) &&
           std::ranges::all_of(value, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

constexpr const char* refused_here = "cannot be written here";

// What stands before a variable on a line of shell or the like: are its quotes open?
Quotes quotes_of_words(std::string_view before) {
    auto open = Quotes::none;
    for (std::size_t i = 0; i < before.size(); ++i) {
        const char c = before[i];
        if (open == Quotes::twofold && c == '\\')
            ++i;
        else if (open == Quotes::none && (c == '"' || c == '\''))
            open = c == '"' ? Quotes::twofold : Quotes::single;
        else if ((open == Quotes::twofold && c == '"') || (open == Quotes::single && c == '\''))
            open = Quotes::none;
    }
    return open;
}

// The beginning of a line of YAML, read as far as needed to know where in it a value would stand.
// Quotes are such only where a value begins: those inside of plain text are its own.
struct YamlLine {
    explicit YamlLine(std::string_view text) {
        for (std::size_t i = 0; i < text.size(); ++i)
            i += take(text[i], i + 1 < text.size() ? text[i + 1] : ' ', i);
    }

    Quotes quotes = Quotes::none;
    bool begins_block = false;     // "|" or ">": the deeper lines behind it are text
    std::size_t parent_column = 0; // of the key or the dash that a block belongs to

private:
    // How many of the characters behind it were taken with it.
    std::size_t take(char c, char next, std::size_t column) {
        const bool after_quotes = std::exchange(after_quotes_, false);
        if (quotes != Quotes::none) {
            if ((quotes == Quotes::twofold && c == '\\') ||
                (quotes == Quotes::single && c == '\'' && next == '\''))
                return 1;
            after_quotes_ = c == (quotes == Quotes::twofold ? '"' : '\'');
            quotes = after_quotes_ ? Quotes::none : quotes;
            return 0;
        }
        const bool blank = c == ' ' || c == '\t', blank_next = next == ' ' || next == '\t';
        const bool after_blank = std::exchange(after_blank_, blank);
        if (in_comment_ || blank)
            return 0;
        if (c == '#' && after_blank) {
            in_comment_ = true;
            return 0;
        }
        if (begins_block) // its marks, as in "|-"
            return 0;
        if (depth_ > 0 && (c == ']' || c == '}')) {
            --depth_;
            begins_ = false;
            return 0;
        }
        if (begins_) {
            if (depth_ == 0 && !has_key_ && c != '|' && c != '>')
                parent_column = column;
            if ((c == '-' || c == '?') && blank_next && depth_ == 0)
                return 0;
            begins_ = c == '[' || c == '{';
            depth_ += begins_ ? 1 : 0;
            begins_block = (c == '|' || c == '>') && depth_ == 0;
            if (c == '"' || c == '\'')
                quotes = c == '"' ? Quotes::twofold : Quotes::single;
            return 0;
        }
        if (c == ':' && (blank_next || (depth_ > 0 && after_quotes))) {
            begins_ = true;
            has_key_ |= depth_ == 0;
        }
        if (depth_ > 0 && c == ',')
            begins_ = true;
        return 0;
    }

    bool begins_ = true, after_blank_ = true, after_quotes_ = false;
    bool in_comment_ = false, has_key_ = false;
    unsigned depth_ = 0; // of [ and {
};

// Line feeds as well: a key of several lines is one scalar.
Result<std::string> in_yaml_quotes(std::string_view value) {
    // What readers of YAML 1.1 take for the end of a line too.
    constexpr std::pair<std::string_view, std::string_view> escapes[] = {
        {"\\", "\\\\"},      {"\"", "\\\""},          {"\n", "\\n"},
        {"\xc2\x85", "\\N"}, {"\xe2\x80\xa8", "\\L"}, {"\xe2\x80\xa9", "\\P"}};
    std::string out;
    for (std::size_t i = 0; i < value.size();) {
        auto found = std::ranges::find_if(
            escapes, [&](const auto& one) { return value.substr(i).starts_with(one.first); });
        if (found != std::end(escapes)) {
            out += found->second;
            i += found->first.size();
            continue;
        }
        if (!is_printable(value.substr(i, 1)))
            return fail(ErrorKind::invalid, "has a control character");
        out += value[i++];
    }
    return out;
}

Result<std::string> in_yaml(std::string_view value, Quotes quotes) {
    if (quotes == Quotes::twofold)
        return in_yaml_quotes(value);
    if (quotes == Quotes::single) {
        if (!is_ascii(value))
            return fail(ErrorKind::invalid, "{}: write it in double quotes", refused_here);
        std::string out;
        for (char c : value)
            out += c == '\'' ? std::string("''") : std::string(1, c);
        return out;
    }
    // Neither a mark of a tag, an anchor or a list in front, nor that of a key behind.
    const bool plain = consists_of(value, "._/@:+=-$") && !value.ends_with(':') &&
                       (value.empty() || consists_of(value.substr(0, 1), "/$"));
    if (!plain)
        return fail(ErrorKind::invalid, "{}: write it in double quotes", refused_here);
    return std::string(value);
}

Result<std::string> in_words(std::string_view value, Quotes quotes) {
    // A dollar and a brace of the text behind it would be a variable of somebody else's.
    if (!consists_of(value, quotes == Quotes::none     ? "._/@:+=,-$"
                            : quotes == Quotes::single ? "._/@:+=,-$ "
                                                       : "._/@:+=,- ") ||
        value.ends_with('$'))
        return fail(ErrorKind::invalid,
                    "{}: only letters, digits and . _ / @ : + = , -, a $ out of double quotes, and "
                    "blanks in quotes",
                    refused_here);
    // An option it would be.
    if (quotes == Quotes::none && value.starts_with('-'))
        return fail(ErrorKind::invalid, "{}: it begins with '-'", refused_here);
    return std::string(value);
}

Result<std::string> in_line(std::string_view value) {
    if (!is_printable(value))
        return fail(ErrorKind::invalid, "has a control character");
    if (value.starts_with(' ') || value.ends_with(' '))
        return fail(ErrorKind::invalid, "begins or ends with a blank, which an installer cuts off");
    return std::string(value);
}

Result<std::string> write_value(std::string_view value, Quotes quotes, Syntax syntax) {
    switch (syntax) {
    case Syntax::lines:
        return in_line(value);
    case Syntax::yaml:
        return in_yaml(value, quotes);
    case Syntax::words:
        break;
    }
    return in_words(value, quotes);
}

class Filler {
public:
    Filler(const std::string& name, const Values& values, Syntax syntax)
        : name_(name), values_(values), syntax_(syntax) {}

    Result<std::string> run(std::string_view text) {
        while (!text.empty()) {
            ++line_;
            const auto end = std::min(text.find('\n'), text.size());
            TRY(add_line(text.substr(0, end), end < text.size()));
            text.remove_prefix(std::min(end + 1, text.size()));
            if (out_.size() > limits::max_answer_file_bytes)
                return complain(0, ErrorKind::limit,
                                fmt::format("with its values the text is longer than {}",
                                            format_size(limits::max_answer_file_bytes)));
        }
        return std::move(out_);
    }

private:
    std::unexpected<Error> complain(std::size_t column, ErrorKind kind, std::string text) const {
        return std::unexpected(Error(kind, std::move(text))
                                   .at(Place{name_, line_, static_cast<unsigned>(column + 1)}));
    }

    Result<std::string_view> value_of(std::string_view variable, std::size_t column) const {
        auto found = values_.find(variable);
        if (found != values_.end())
            return std::string_view(found->second);
        std::string known;
        for (const auto& [name, value] : values_)
            known += (known.empty() ? "" : ", ") + name;
        return complain(column, ErrorKind::invalid,
                        fmt::format("there is no variable \"{}\": there are {}; what is not for "
                                    "this host is written with two dollars",
                                    printable(variable, 40), known));
    }

    // What stands before a line may leave it out.
    Result<void> add_line(std::string_view line, bool ended) {
        std::size_t at = 0;
        for (;;) {
            const auto rest = line.substr(at);
            const bool if_any = rest.starts_with("${?");
            if (!if_any && !rest.starts_with("${!"))
                break;
            const auto end = rest.find('}');
            if (end == std::string_view::npos)
                return complain(at, ErrorKind::invalid, "a variable without its \"}\"");
            const auto value = TRY(value_of(rest.substr(3, end - 3), at));
            if (value.empty() == if_any)
                return {};
            at += end + 1;
        }
        const auto begin = out_.size();
        while (at < line.size()) {
            const auto next = std::min(line.find('$', at), line.size());
            out_ += line.substr(at, next - at);
            at = next;
            const auto rest = line.substr(at);
            if (rest.starts_with("$${")) {
                out_ += "${";
                at += 3;
            } else if (rest.starts_with("${")) {
                const auto end = rest.find('}');
                if (end == std::string_view::npos)
                    return complain(at, ErrorKind::invalid, "a variable without its \"}\"");
                TRY(add_value(rest.substr(2, end - 2), at, std::string_view(out_).substr(begin)));
                at += end + 1;
            } else if (!rest.empty()) {
                out_ += '$';
                ++at;
            }
        }
        follow_block(std::string_view(out_).substr(begin));
        if (ended)
            out_ += '\n';
        return {};
    }

    // Which block of YAML the next line is in, if it is.
    void follow_block(std::string_view written) {
        if (syntax_ != Syntax::yaml || is_in_block(written) ||
            written.find_first_not_of(' ') == std::string_view::npos)
            return;
        const YamlLine line(written);
        block_column_.reset();
        if (line.begins_block)
            block_column_ = line.parent_column;
    }
    bool is_in_block(std::string_view line) const {
        return block_column_ && std::min(line.find_first_not_of(' '), line.size()) > *block_column_;
    }

    Result<void> add_value(std::string_view variable, std::size_t column, std::string_view before) {
        const auto value = TRY(value_of(variable, column));
        const bool yaml = syntax_ == Syntax::yaml && !is_in_block(before);
        const auto syntax = syntax_ == Syntax::yaml && !yaml ? Syntax::words : syntax_;
        auto written =
            write_value(value, yaml ? YamlLine(before).quotes : quotes_of_words(before), syntax);
        if (!written)
            return complain(
                column, ErrorKind::invalid,
                fmt::format("the value of \"{}\" {}", variable, written.error().text()));
        out_ += *written;
        return {};
    }

    const std::string& name_;
    const Values& values_;
    Syntax syntax_;
    std::string out_;
    unsigned line_ = 0;
    std::optional<std::size_t> block_column_; // of YAML: deeper lines are text
};

} // namespace

Result<std::string> fill(std::string_view text, const std::string& name, const Values& values,
                         Syntax syntax) {
    return Filler(name, values, syntax).run(text);
}

} // namespace vmhost::install
