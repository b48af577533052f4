#include "config/vmconf/lexer.h"

#include <algorithm>

namespace vmhost::config::vmconf {

namespace {

bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}
// A minus begins a number, a colon the owner ":group".
bool begins_word(char c) {
    return is_name(c) || c == '/' || c == ':' || c == '-';
}
bool is_in_word(char c) {
    return c > ' ' && c < 0x7f && std::string_view("{}(),<>!=#\"'\\$").find(c) == std::string::npos;
}

std::string folder_of(const std::string& path) {
    auto slash = path.rfind('/');
    return slash == std::string::npos ? std::string() : path.substr(0, slash + 1);
}

} // namespace

Lexer::Lexer(const ImportOptions& options) : options_(options) {}

std::unexpected<Error> Lexer::refuse(ErrorKind kind, std::string text, const Place& place) {
    return std::unexpected(Error(kind, std::move(text)).at(place));
}

Result<void> Lexer::open(const std::string& path, const Place& from) {
    // A relative name starts at the folder of the file that has it.
    auto whole = path.starts_with('/') ? path : folder_of(from.file) + path;
    if (sources_.size() >= max_include_depth)
        return refuse(ErrorKind::limit,
                      fmt::format("\"{}\": files include each other {} deep", printable(whole),
                                  max_include_depth),
                      from);
    if (++files_ > max_files)
        return refuse(
            ErrorKind::limit,
            fmt::format("\"{}\": more than {} files are included", printable(whole), max_files),
            from);
    auto text = options_.read(whole);
    if (!text)
        return std::unexpected(from.line ? std::move(text).error().at(from)
                                         : std::move(text).error());
    read_bytes_ += text->size();
    if (read_bytes_ > max_read_bytes)
        return refuse(ErrorKind::limit,
                      fmt::format("\"{}\": all files together have more than {}", printable(whole),
                                  format_size(max_read_bytes)),
                      from);
    sources_.push_back({*std::move(text), {whole, 1, 1}});
    return {};
}

char Lexer::peek(std::size_t ahead) const {
    const Source& source = sources_.back();
    return source.at + ahead < source.text.size() ? source.text[source.at + ahead] : '\0';
}

void Lexer::step() {
    Source& source = sources_.back();
    const bool line = source.text[source.at++] == '\n';
    if (source.macro)
        return;
    if (line) {
        ++source.place.line;
        source.place.column = 1;
    } else {
        ++source.place.column;
    }
}

// To the end of the line; a backslash before it takes the next line along.
void Lexer::skip_line() {
    while (!at_end() && peek() != '\n') {
        if (peek() == '\\' && peek(1) == '\n')
            step();
        step();
    }
}

// Blanks, comments and continued lines. False when something follows on the line.
bool Lexer::skip_blanks() {
    while (!at_end()) {
        if (peek() == ' ' || peek() == '\t' || peek() == '\r') {
            step();
        } else if (peek() == '\\' && peek(1) == '\n') {
            step();
            step();
        } else if (peek() == '#') {
            skip_line();
        } else {
            return false;
        }
    }
    return true;
}

Result<Token> Lexer::next() {
    for (;;) {
        if (!skip_blanks()) {
            if (peek() != '$')
                break;
            TRY(expand());
            continue;
        }
        if (sources_.size() == 1)
            return Token{Token::Kind::end, "", sources_.back().place};
        const bool macro = sources_.back().macro;
        auto place = sources_.back().place;
        sources_.pop_back();
        if (!macro) // the last line of a file ends with it
            return Token{Token::Kind::newline, "", place};
    }
    const char c = peek();
    auto place = sources_.back().place;
    if (c == '\n') {
        step();
        return Token{Token::Kind::newline, "", place};
    }
    if (c == '{' || c == '}' || c == ',' || c == '=') {
        step();
        return Token{Token::Kind::mark, std::string(1, c), place};
    }
    if (c == '"' || c == '\'')
        return quoted(c);
    if (begins_word(c))
        return word();
    skip_line();
    return refuse(ErrorKind::invalid,
                  fmt::format("\"{}\" is not part of any statement; put text with it into quotes",
                              printable(std::string_view(&c, 1))),
                  place);
}

Result<Token> Lexer::quoted(char quote) {
    Token token{Token::Kind::quoted, "", sources_.back().place};
    step();
    while (!at_end() && peek() != quote && peek() != '\n') {
        if (peek() == '\\' && peek(1) == '\n') {
            step();
        } else {
            if (peek() == '\\' && (peek(1) == quote || peek(1) == ' ' || peek(1) == '\t'))
                step();
            token.text += peek();
        }
        step();
    }
    if (at_end() || peek() != quote)
        return refuse(ErrorKind::invalid, "the text in quotes has no end on this line",
                      token.place);
    step();
    if (token.text.size() > max_word_bytes)
        return refuse(ErrorKind::limit, fmt::format("a text has at most {} bytes", max_word_bytes),
                      token.place);
    for (char c : token.text)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
            return refuse(ErrorKind::invalid,
                          fmt::format("\"{}\" has a control character", printable(token.text, 70)),
                          token.place);
    return token;
}

Result<Token> Lexer::word() {
    Token token{Token::Kind::word, "", sources_.back().place};
    while (!at_end() && is_in_word(peek())) {
        token.text += peek();
        step();
    }
    if (token.text.size() > max_word_bytes)
        return refuse(ErrorKind::limit, fmt::format("a word has at most {} bytes", max_word_bytes),
                      token.place);
    return token;
}

Result<void> Lexer::define(const std::string& name, const std::string& value, const Place& place,
                           bool from_command_line) {
    if (name.empty() || !std::ranges::all_of(name, is_name))
        return refuse(ErrorKind::invalid,
                      fmt::format("\"{}\" is no name of a macro: letters, digits and '_'",
                                  printable(name, 40)),
                      place);
    auto& macro = macros_[name];
    if (macros_.size() > max_macros)
        return refuse(ErrorKind::limit, fmt::format("there are at most {} macros", max_macros),
                      place);
    if (!macro.from_command_line)
        macro = {value, place, macro.used, from_command_line};
    return {};
}

// Puts the text of the macro before what follows it.
Result<void> Lexer::expand() {
    auto place = sources_.back().place;
    const bool inside = sources_.back().macro;
    step();
    std::string name;
    while (!at_end() && is_name(peek())) {
        name += peek();
        step();
    }
    auto found = macros_.find(name);
    if (inside)
        return refuse(ErrorKind::invalid,
                      fmt::format("\"${}\" is in the text of a macro, where no other is expanded",
                                  printable(name, 40)),
                      place);
    if (found == macros_.end())
        return refuse(ErrorKind::not_found,
                      fmt::format("macro \"{}\" is not defined", printable(name, 40)), place);
    found->second.used = true;
    read_bytes_ += found->second.value.size();
    if (read_bytes_ > max_read_bytes)
        return refuse(ErrorKind::limit,
                      fmt::format("macros come to more than {}", format_size(max_read_bytes)),
                      place);
    sources_.push_back({found->second.value, place, true});
    return {};
}

std::vector<std::pair<std::string, Place>> Lexer::unused_macros() const {
    std::vector<std::pair<std::string, Place>> out;
    for (const auto& [name, macro] : macros_)
        if (!macro.used)
            out.emplace_back(name, macro.place);
    return out;
}

} // namespace vmhost::config::vmconf
