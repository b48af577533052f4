// Changes of a file's text that leave everything else as the operator wrote it: comments, order,
// blanks.
//
// The text is walked over once, as a list of headers and of key-value pairs with where they begin
// and end; what a value is, nobody asks. That is enough because the text has been parsed before,
// and what comes out is parsed again by whoever changed it: a file that says the same in a manner
// that cannot be edited (inline tables, dotted keys) is refused and not guessed at.
#include <algorithm>

#include "config/config.h"
#include "config/toml_text.h"

namespace vmhost::config {

namespace {

struct Item {
    std::size_t begin = 0, end = 0; // of its lines, with the line feed
    bool header = false;
    bool element = false; // [[…]]
    std::vector<std::string> key;
    std::size_t value_begin = 0, value_end = 0; // of a pair
};

class Walker {
public:
    explicit Walker(std::string_view text) : text_(text) {}

    std::vector<Item> walk() {
        std::vector<Item> items;
        while (skip_to_statement()) {
            Item item;
            item.begin = line_begin(at_);
            item.header = text_[at_] == '[';
            if (item.header)
                read_header(item);
            else
                read_pair(item);
            skip_line();
            item.end = at_;
            items.push_back(std::move(item));
        }
        return items;
    }

private:
    bool ended() const { return at_ >= text_.size(); }
    std::size_t line_begin(std::size_t at) const {
        auto before = at == 0 ? std::string_view::npos : text_.rfind('\n', at - 1);
        return before == std::string_view::npos ? 0 : before + 1;
    }
    void skip_line() { at_ = std::min(text_.find('\n', at_), text_.size() - 1) + 1; }
    void skip_blanks() {
        while (!ended() && (text_[at_] == ' ' || text_[at_] == '\t'))
            ++at_;
    }
    bool skip_to_statement() {
        while (!ended()) {
            char c = text_[at_];
            if (c == '#')
                skip_line();
            else if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
                ++at_;
            else if (text_.substr(at_).starts_with("\xef\xbb\xbf"))
                at_ += 3;
            else
                return true;
        }
        return false;
    }

    // Names of files have no escapes worth knowing: one with a backslash is nobody we look for.
    std::string read_key_part() {
        skip_blanks();
        if (ended())
            return {};
        char quote = text_[at_];
        if (quote == '"' || quote == '\'') {
            auto begin = ++at_;
            while (!ended() && text_[at_] != quote && text_[at_] != '\n')
                at_ += text_[at_] == '\\' && quote == '"' ? 2 : 1;
            at_ = std::min(at_, text_.size());
            auto part = std::string(text_.substr(begin, at_ - begin));
            if (!ended())
                ++at_;
            return part;
        }
        auto begin = at_;
        while (!ended() &&
               std::string_view(".=] \t\r\n#").find(text_[at_]) == std::string_view::npos)
            ++at_;
        return std::string(text_.substr(begin, at_ - begin));
    }
    void read_key(Item& item) {
        for (;;) {
            item.key.push_back(read_key_part());
            skip_blanks();
            if (ended() || text_[at_] != '.')
                return;
            ++at_;
        }
    }
    void read_header(Item& item) {
        ++at_;
        if (!ended() && text_[at_] == '[') {
            item.element = true;
            ++at_;
        }
        read_key(item);
    }
    void read_pair(Item& item) {
        read_key(item);
        if (!ended() && text_[at_] == '=')
            ++at_;
        skip_blanks();
        item.value_begin = at_;
        item.value_end = at_;
        for (unsigned depth = 0; !ended();) {
            char c = text_[at_];
            if (c == '"' || c == '\'') {
                skip_string(c);
            } else if (c == '#' || c == '\n' || c == '\r') {
                if (depth == 0)
                    return;
                if (c == '#')
                    skip_line();
                else
                    ++at_;
                continue;
            } else {
                if (c == '[' || c == '{')
                    ++depth;
                else if ((c == ']' || c == '}') && depth > 0)
                    --depth;
                ++at_;
                if (c == ' ' || c == '\t')
                    continue;
            }
            item.value_end = at_;
        }
    }
    void skip_string(char quote) {
        const std::string three(3, quote);
        const bool lines = text_.substr(at_).starts_with(three);
        at_ += lines ? 3 : 1;
        while (!ended()) {
            if (quote == '"' && text_[at_] == '\\') {
                at_ = std::min(at_ + 2, text_.size());
            } else if (lines && text_.substr(at_).starts_with(three)) {
                at_ += 3;
                for (int extra = 0; extra < 2 && !ended() && text_[at_] == quote; ++extra)
                    ++at_;
                return;
            } else if (!lines && text_[at_] == quote) {
                ++at_;
                return;
            } else if (!lines && text_[at_] == '\n') {
                return;
            } else {
                ++at_;
            }
        }
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

bool is_of_vm(const Item& item, std::string_view vm) {
    return item.header && item.key.size() >= 2 && item.key[0] == "vm" && item.key[1] == vm;
}

// Where the comment begins that stands right above a line.
std::size_t comment_above(std::string_view text, std::size_t begin) {
    while (begin > 0) {
        auto before = begin == 1 ? std::string_view::npos : text.rfind('\n', begin - 2);
        auto line_begin = before == std::string_view::npos ? 0 : before + 1;
        auto line = text.substr(line_begin, begin - line_begin);
        auto first = line.find_first_not_of(" \t");
        if (first == std::string_view::npos || line[first] != '#')
            break;
        begin = line_begin;
    }
    return begin;
}

std::string table_name(const std::vector<std::string>& table) {
    std::string out;
    for (const auto& part : table)
        out += (out.empty() ? "" : ".") + key_text(part);
    return out;
}

} // namespace

Result<std::string> without_vm(std::string_view text, std::string_view vm) {
    auto items = Walker(text).walk();
    std::string out;
    std::size_t kept_until = 0;
    bool found = false;
    for (std::size_t i = 0; i < items.size(); ++i) {
        if (!is_of_vm(items[i], vm))
            continue;
        found = true;
        auto begin = std::max(comment_above(text, items[i].begin), kept_until);
        while (i + 1 < items.size() && (!items[i + 1].header || is_of_vm(items[i + 1], vm)))
            ++i;
        auto end = items[i].end;
        out += text.substr(kept_until, begin - kept_until);
        // One empty line is left where there was one before and one behind.
        while (end < text.size() && text[end] == '\n' && (out.empty() || out.ends_with("\n\n")))
            ++end;
        kept_until = end;
    }
    if (!found)
        return fail(ErrorKind::unsupported,
                    "[vm.{}] is not a table of its own: take it out by hand", key_text(vm));
    out += text.substr(kept_until);
    while (out.ends_with("\n\n") && kept_until == text.size())
        out.pop_back();
    return out;
}

Result<std::string> with_key(std::string_view text, const std::vector<std::string>& table,
                             std::string_view key, std::string_view value) {
    auto items = Walker(text).walk();
    auto header = std::ranges::find_if(
        items, [&](const Item& item) { return item.header && !item.element && item.key == table; });
    if (header == items.end())
        return fail(ErrorKind::unsupported, "[{}] is not a table of its own: change \"{}\" by hand",
                    table_name(table), key);
    std::string out;
    for (auto item = header + 1; item != items.end() && !item->header; ++item) {
        if (item->key.front() != key)
            continue;
        if (item->key.size() > 1)
            return fail(ErrorKind::unsupported, "{}.{} is in parts: change it by hand",
                        table_name(table), key);
        out += text.substr(0, item->value_begin);
        out += value;
        out += text.substr(item->value_end);
        return out;
    }
    out += text.substr(0, header->end);
    if (!out.ends_with('\n'))
        out += '\n';
    out += fmt::format("{} = {}\n", key_text(key), value);
    out += text.substr(header->end);
    return out;
}

std::string with_tables(std::string_view text, std::string_view tables) {
    std::string out(text);
    if (!out.empty() && !out.ends_with('\n'))
        out += '\n';
    if (!out.empty() && !out.ends_with("\n\n"))
        out += '\n';
    out += tables;
    return out;
}

std::string toml_text(std::string_view text) {
    return quoted_text(text);
}

} // namespace vmhost::config
