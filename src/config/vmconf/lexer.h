// The words of a vm.conf(5): comments, continued lines, quotes, macros and included files are
// gone when the parser sees them.
//
// Text that a macro stands for is taken apart again where it is used, so that it may be several
// words; macros in it are not expanded once more, as in OpenBSD, and therefore cannot grow
// without end. Everything else that a file can ask for is bounded by limits below.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "config/config.h"

namespace vmhost::config::vmconf {

// The longest word, as in vmd(8); and what files and macros come to, all together.
inline constexpr std::size_t max_word_bytes = 8 << 10;
inline constexpr std::size_t max_read_bytes = 4 << 20;
inline constexpr std::size_t max_include_depth = 16;
inline constexpr std::size_t max_files = 256; // a few that include each other could ask for many
inline constexpr std::size_t max_macros = 4096;

struct Token {
    enum class Kind : std::uint8_t {
        word,   // as it stands: a keyword, a number, a path
        quoted, // never a keyword
        mark,   // one of { } , =
        newline,
        end,
    };
    Kind kind = Kind::end;
    std::string text;
    Where place;
    bool is(char c) const { return kind == Kind::mark && text.size() == 1 && text[0] == c; }
    bool is_word(std::string_view what) const { return kind == Kind::word && text == what; }
    bool is_text() const { return kind == Kind::word || kind == Kind::quoted; }
};

class Lexer {
public:
    explicit Lexer(const ImportOptions& options);

    // From here on, and then on from where it stood.
    Result<void> open(const std::string& path, const Place& from);
    // After an error the rest of the line has been skipped.
    Result<Token> next();
    // One of the command line stays.
    Result<void> define(const std::string& name, const std::string& value, const Place& place,
                        bool from_command_line);
    // Where a macro was defined that nobody used.
    std::vector<std::pair<std::string, Place>> unused_macros() const;

private:
    struct Source {
        std::string text;
        Place place; // of the next character; of its use when it is a macro's text
        bool macro = false;
        std::size_t at = 0;
    };
    struct Macro {
        std::string value;
        Place place;
        bool used = false;
        bool from_command_line = false;
    };

    bool at_end() const { return sources_.back().at == sources_.back().text.size(); }
    char peek(std::size_t ahead = 0) const;
    void step();
    void skip_line();
    bool skip_blanks();
    Result<Token> quoted(char quote);
    Result<Token> word();
    Result<void> expand();
    std::unexpected<Error> refuse(ErrorKind kind, std::string text, const Place& place);

    const ImportOptions& options_;
    std::vector<Source> sources_;
    std::map<std::string, Macro> macros_;
    std::size_t read_bytes_ = 0;
    std::size_t files_ = 0;
};

} // namespace vmhost::config::vmconf
