// Words, strings with escapes, ';', '{', '}', ',' and comments from '#' to the end of the line.
#include <algorithm>

#include "config/dhcpdconf/conf.h"

namespace vmhost::config::dhcpdconf {

namespace {

constexpr unsigned max_depth = 16; // groups in groups; the parser calls itself

class Parser {
public:
    Parser(std::string_view text, const std::string& file) : rest_(text), place_{file, 1, 1} {}

    Result<std::vector<Statement>> block(unsigned depth) {
        std::vector<Statement> out;
        if (depth > max_depth)
            return wrong("blocks are more than 16 deep");
        for (;;) {
            skip();
            if (rest_.empty() || rest_.front() == '}')
                return out;
            out.push_back(TRY(statement(depth)));
        }
    }
    bool at_end() const { return rest_.empty(); }
    std::unexpected<Error> wrong(std::string text) const {
        return std::unexpected(Error(ErrorKind::invalid, std::move(text)).at(place_));
    }

private:
    Result<Statement> statement(unsigned depth) {
        Statement out;
        out.place = place_;
        for (;;) {
            skip();
            if (rest_.empty())
                return wrong("the last statement has no end: ';' is missing");
            char next = rest_.front();
            if (next == ';') {
                take();
                return out;
            }
            if (next == '{') {
                take();
                out.has_block = true;
                out.block = TRY(block(depth + 1));
                if (rest_.empty())
                    return wrong("a block has no end: '}' is missing");
                take();
                return out;
            }
            if (next == '}')
                return wrong("';' is missing before '}'");
            if (next == '"')
                out.words.push_back({TRY(string()), true});
            else if (next == ',')
                out.words.push_back({std::string(1, take()), false});
            else
                out.words.push_back({word(), false});
        }
    }

    std::string word() {
        std::string out;
        while (!rest_.empty() && !std::string_view(" \t\r\n;{},\"#").contains(rest_.front()))
            out.push_back(take());
        return out;
    }

    // \t \r \n \b, octal and hexadecimal.
    Result<std::string> string() {
        std::string out;
        take();
        for (;;) {
            if (rest_.empty() || rest_.front() == '\n')
                return wrong("a string has no end");
            char c = take();
            if (c == '"')
                return out;
            out.push_back(c == '\\' && !rest_.empty() ? escape() : c);
        }
    }
    char escape() {
        char c = take();
        if (c == 'x')
            return number(16, 2, '\0');
        if (c >= '0' && c <= '7')
            return number(8, 2, c);
        return c == 't' ? '\t' : c == 'r' ? '\r' : c == 'n' ? '\n' : c == 'b' ? '\b' : c;
    }
    char number(unsigned base, unsigned digits, char first) {
        unsigned value = first == '\0' ? 0 : static_cast<unsigned>(first - '0');
        for (; digits > 0 && !rest_.empty(); --digits) {
            char c = rest_.front();
            unsigned digit = c >= '0' && c <= '9'   ? static_cast<unsigned>(c - '0')
                             : c >= 'a' && c <= 'f' ? static_cast<unsigned>(c - 'a') + 10
                             : c >= 'A' && c <= 'F' ? static_cast<unsigned>(c - 'A') + 10
                                                    : base;
            if (digit >= base)
                break;
            value = value * base + digit;
            take();
        }
        return static_cast<char>(value & 0xff);
    }

    void skip() {
        while (!rest_.empty()) {
            if (rest_.front() == '#')
                while (!rest_.empty() && rest_.front() != '\n')
                    take();
            else if (std::string_view(" \t\r\n").contains(rest_.front()))
                take();
            else
                return;
        }
    }
    char take() {
        char c = rest_.front();
        rest_.remove_prefix(1);
        if (c == '\n') {
            ++place_.line;
            place_.column = 1;
        } else {
            ++place_.column;
        }
        return c;
    }

    std::string_view rest_;
    Place place_;
};

} // namespace

std::string Statement::word(std::size_t index) const {
    if (index >= words.size())
        return {};
    std::string out = words[index].text;
    std::ranges::transform(out, out.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    });
    return out;
}

Result<std::vector<Statement>> parse(std::string_view text, const std::string& file) {
    Parser parser(text, file);
    auto out = TRY(parser.block(0));
    if (!parser.at_end())
        return parser.wrong("there is a '}' too many");
    return out;
}

} // namespace vmhost::config::dhcpdconf
