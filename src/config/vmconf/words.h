// What every rule of the grammar is made of: the word at hand, texts, numbers, lines and blocks;
// and how reading goes on behind a mistake. An error throws away the rest of its line, or of its
// block when the head of the block is wrong, so that one mistake is one complaint.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>

#include "config/rules.h"
#include "config/vmconf/conf.h"
#include "config/vmconf/lexer.h"

namespace vmhost::config::vmconf {

inline constexpr std::array<std::string_view, 40> keywords{
    "add",     "agentx",   "allow",     "boot",       "cdrom",  "context", "delay",  "device",
    "disable", "disk",     "down",      "enable",     "format", "group",   "id",     "include",
    "inet6",   "instance", "interface", "interfaces", "lladdr", "local",   "locked", "memory",
    "net",     "owner",    "parallel",  "path",       "prefix", "rdomain", "sev",    "seves",
    "size",    "socket",   "staggered", "start",      "switch", "up",      "vm",     ""};

inline bool is_keyword(std::string_view word) {
    return !word.empty() && std::ranges::find(keywords, word) != keywords.end();
}

class Words {
public:
    Words(Lexer& lexer, std::vector<Error>& warnings) : lexer_(lexer), warnings_(warnings) {}
    Complaints take_complaints() { return std::move(complaints_); }

protected:
    using Done = Result<void>;

    void advance() {
        for (;;) {
            auto next = lexer_.next();
            if (next) {
                token_ = *std::move(next);
                return;
            }
            // It has skipped what it could not read; what the line then lacks is no mistake more.
            broken_ = next.error().place();
            complain(std::move(next).error());
        }
    }
    void complain(Error error) {
        if (complaints_.size() < limits::max_complaints)
            complaints_.push_back(std::move(error));
    }
    void complain_once(Error error) {
        if (error.place().line != broken_.line || error.place().file != broken_.file)
            complain(std::move(error));
    }
    std::unexpected<Error> wrong(std::string text, const Place& place,
                                 ErrorKind kind = ErrorKind::invalid) const {
        return std::unexpected(Error(kind, std::move(text)).at(place));
    }
    std::string here() const {
        switch (token_.kind) {
        case Token::Kind::end:
            return "the end of the file";
        case Token::Kind::newline:
            return "the end of the line";
        default:
            return fmt::format("\"{}\"", printable(token_.text, 70));
        }
    }
    std::unexpected<Error> expected(std::string_view what) const {
        return wrong(fmt::format("expected {}, got {}", what, here()), token_.place);
    }
    bool take(std::string_view word) {
        if (!token_.is_word(word))
            return false;
        advance();
        return true;
    }
    bool take(char mark) {
        if (!token_.is(mark))
            return false;
        advance();
        return true;
    }
    Done word(std::string_view what) {
        if (!take(what))
            return expected(fmt::format("\"{}\"", what));
        return {};
    }
    void skip_newlines() {
        while (token_.kind == Token::Kind::newline)
            advance();
    }
    bool at_text() const {
        return token_.kind == Token::Kind::quoted ||
               (token_.kind == Token::Kind::word && !is_keyword(token_.text));
    }
    // Texts that stand side by side are one.
    Result<std::string> text(std::string_view what) {
        if (!at_text())
            return expected(what);
        std::string out;
        for (; at_text(); advance())
            out += token_.text;
        if (out.empty())
            return wrong(fmt::format("expected {}, got an empty text", what), token_.place);
        return out;
    }
    Result<std::uint64_t> number(std::string_view what, std::uint64_t min, std::uint64_t max) {
        auto place = token_.place;
        auto digits = TRY(text(what));
        std::int64_t value = 0;
        auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
        if (problem != std::errc() || end != digits.data() + digits.size())
            return wrong(fmt::format("expected {}, got \"{}\"", what, printable(digits, 40)),
                         place);
        if (value < 0 || static_cast<std::uint64_t>(value) < min ||
            static_cast<std::uint64_t>(value) > max)
            return wrong(fmt::format("{}: {} is not from {} to {}", what, value, min, max), place,
                         ErrorKind::limit);
        return static_cast<std::uint64_t>(value);
    }

    Done say_text(Text& out, std::string_view what) {
        auto place = token_.place;
        out.say(TRY(text(what)), place);
        return {};
    }
    Done say_number(Number& out, std::string_view what, std::uint64_t min, std::uint64_t max) {
        auto place = token_.place;
        out.say(TRY(number(what, min, max)), place);
        return {};
    }
    Done say_owner(Text& out) {
        TRY(say_text(out, "an owner such as alice or alice:staff"));
        if (auto good = parse_owner(out.value); !good)
            return std::unexpected(std::move(good).error().at(out));
        return {};
    }
    template <class Value>
    Done once(const Said<Value>& what, std::string_view name) {
        if (what.given)
            return wrong(fmt::format("{} is given twice, first at line {}", name, what.line),
                         token_.place, ErrorKind::exists);
        return {};
    }

    // To the end of the line; with a block that is entered on the way, behind it. inside: a brace
    // that closes the block around us is left alone.
    void recover(Error error, bool inside) {
        complain_once(std::move(error));
        std::size_t depth = 0;
        while (token_.kind != Token::Kind::end) {
            if (depth == 0 && (token_.kind == Token::Kind::newline || (inside && token_.is('}'))))
                return;
            depth += token_.is('{');
            depth -= token_.is('}') && depth > 0;
            advance();
        }
    }
    Done end_of_line() {
        if (token_.kind != Token::Kind::newline && token_.kind != Token::Kind::end)
            return expected("the end of the line");
        return {};
    }

    // Calls option() for each line of a block; '{' comes next.
    template <class Option>
    Done block(std::string_view what, Option option) {
        auto open = token_.place;
        if (!take('{'))
            return expected("\"{\"");
        bool any = false;
        for (;;) {
            skip_newlines();
            if (token_.kind == Token::Kind::end)
                return wrong(fmt::format("the block of this {} has no end", what), open);
            if (take('}')) {
                if (!any)
                    return wrong(fmt::format("this {} has no options", what), open);
                return end_of_line();
            }
            any = true;
            auto done = option();
            if (done && token_.kind != Token::Kind::newline && !token_.is('}'))
                done = expected("the end of the line");
            if (!done)
                recover(std::move(done).error(), true);
        }
    }

    // A block inside a block: items on lines of their own or behind commas. A wrong one takes the
    // rest of the block with it.
    template <class Item>
    Done list(std::string_view what, Item item) {
        auto open = token_.place;
        advance();
        for (;;) {
            while (token_.kind == Token::Kind::newline || token_.is(','))
                advance();
            if (take('}'))
                return {};
            if (token_.kind == Token::Kind::end)
                return wrong(fmt::format("the block of this {} has no end", what), open);
            if (auto done = item(); !done) {
                complain_once(std::move(done).error());
                while (token_.kind != Token::Kind::end && !token_.is('}'))
                    advance();
            }
        }
    }

    Result<std::string> name(std::string_view what) {
        auto place = token_.place;
        auto out = TRY(text(what));
        if (auto good = check_name(out); !good)
            return std::unexpected(std::move(good).error().at(place));
        return out;
    }

    static std::string suggestion_for(std::string_view word,
                                      std::initializer_list<std::string_view> known) {
        auto best = word.size() <= limits::max_name_bytes
                        ? nearest(word, std::vector<std::string_view>(known))
                        : std::string_view();
        return best.empty() ? std::string() : fmt::format(": did you mean \"{}\"?", best);
    }

    void warn(const Place& place, std::string text) {
        if (warnings_.size() < limits::max_complaints)
            warnings_.push_back(Error(ErrorKind::exists, std::move(text)).at(place));
    }

    Lexer& lexer_;
    std::vector<Error>& warnings_;
    Complaints complaints_;
    Token token_;  // the one at hand
    Place broken_; // the last line that the lexer complained about
};

} // namespace vmhost::config::vmconf
