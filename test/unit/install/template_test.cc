// Texts with variables, and what a value may be in each place.

#include <catch2/catch.hpp>

#include "install/template.h"

using namespace vmhost;
using namespace vmhost::install;

namespace {

std::string filled(std::string_view text, const Values& values, Syntax syntax) {
    auto out = fill(text, "t", values, syntax);
    return out ? *out : "refused: " + out.error().message();
}

bool refused(std::string_view text, const std::string& value, Syntax syntax) {
    return !fill(text, "t", {{"x", value}}, syntax);
}

} // namespace

TEST_CASE("variables are put in, and lines left out") {
    const Values values{{"host", "puffy"}, {"user", ""}};
    CHECK(filled("a ${host} b${host}\nend", values, Syntax::words) == "a puffy bpuffy\nend");
    CHECK(filled("${?host}one\n${?user}two\n${!user}three\n${?host}${!user}four ${host}\n", values,
                 Syntax::words) == "one\nthree\nfour puffy\n");
    CHECK(filled("$${net0/ip} $1 $ $$ ${host}$", values, Syntax::words) ==
          "${net0/ip} $1 $ $$ puffy$");
    CHECK(filled("", values, Syntax::words).empty());
    CHECK(filled("\n\n", values, Syntax::words) == "\n\n");
}

TEST_CASE("what is wrong with a text is told with its place") {
    const Values values{{"host", "puffy"}};
    CHECK(
        filled("a\nb ${hots}\n", values, Syntax::words) ==
        "refused: t:2:3: there is no variable \"hots\": there are host; what is not for this host "
        "is written with two dollars");
    CHECK(filled("a\nb ${host\n", values, Syntax::words) ==
          "refused: t:2:3: a variable without its \"}\"");
    CHECK(filled("${?nobody}x", values, Syntax::words).starts_with("refused: t:1:1: there is no"));
    CHECK(filled("${?host", values, Syntax::words).starts_with("refused: t:1:1: a variable"));
    CHECK(
        filled("x: ${host}", {{"host", "a: b"}}, Syntax::yaml) ==
        "refused: t:1:4: the value of \"host\" cannot be written here: write it in double quotes");
    const Values large{{"host", std::string(1000, 'x')}};
    std::string text;
    for (int i = 0; i < 300; ++i)
        text += "${host}\n";
    CHECK(filled(text, large, Syntax::words).find("longer than 256") != std::string::npos);
}

TEST_CASE("yaml: a value stays the scalar that it is in") {
    CHECK(filled("k: \"${x}\"", {{"x", "a\"b\\c: #d\ne\xc2\x85"}}, Syntax::yaml) ==
          "k: \"a\\\"b\\\\c: #d\\ne\\N\"");
    CHECK(filled("k: '${x}'", {{"x", "it's: #x"}}, Syntax::yaml) == "k: 'it''s: #x'");
    CHECK(filled("k: ${x}", {{"x", "$6$salt$hash/."}}, Syntax::yaml) == "k: $6$salt$hash/.");
    CHECK(filled("k: [\"${x}\", \"${x}\"]", {{"x", "a\"b"}}, Syntax::yaml) ==
          "k: [\"a\\\"b\", \"a\\\"b\"]");
    CHECK(filled("- {a: \"b\", \"c\":\"${x}\"} # \"${x}", {{"x", "/d"}}, Syntax::yaml) ==
          "- {a: \"b\", \"c\":\"/d\"} # \"/d");
    // A quote within a plain scalar opens nothing, nor does one in a comment.
    for (auto text : {"k: ${x}", "k: it\"s ${x}", "k: \"a\" ${x}", "k: a # \" ${x}", "- ${x}",
                      "- a \"${x}\"", "k: a \"${x}\"", "k: [a \"${x}\"]", "[] \"${x}\"",
                      "k: {a:\"${x}\"}", "k: 'it''s' \"${x}"})
        for (auto bad :
             {"a b", "a: b", "a #b", "a\nb: c", "-",  "!x", "*x",  "&x", "[a", "{a", "a,b",
              "a:",  "|",    ">",    "%x",      "@x", "`x", "\"x", "'x", "?",  "..."}) {
            INFO(text << " with " << bad);
            CHECK(refused(text, bad, Syntax::yaml));
        }
    CHECK(refused("'${x}'", "a\nb", Syntax::yaml));
    CHECK(refused("\"${x}\"", std::string("a\0b", 3), Syntax::yaml));
    CHECK(refused("\"${x}\"", "a\rb", Syntax::yaml));
}

TEST_CASE("yaml: a block is text, most likely of a shell") {
    const std::string block = "runcmd:\n  - |\n   echo \"${x}\"\n\n     more '${x}'\n";
    CHECK(filled(block, {{"x", "a b"}}, Syntax::yaml) ==
          "runcmd:\n  - |\n   echo \"a b\"\n\n     more 'a b'\n");
    for (auto text : {block, std::string("- key: >-  # text\n\n   \"${x}\"")})
        for (auto bad : {"$(reboot)", "`reboot`", "a\"b", "a;b", "a\nb", "a\\"}) {
            INFO(text << " with " << bad);
            CHECK(refused(text, bad, Syntax::yaml));
        }
    // What is no deeper than its key, or than its dash, is not in it.
    for (auto text : {"a: |\n  ${y}\n${z}k: \"${x}\"", "- a: |-2\n    b\n  k: \"${x}\"",
                      "- |\n b\n- \"${x}\"", "a: [\"|\", b | c]\n \"k\": \"${x}\""}) {
        auto out = filled(text, {{"x", "a;\"b\" #"}, {"y", "y"}, {"z", ""}}, Syntax::yaml);
        CHECK(out.ends_with("\"a;\\\"b\\\" #\""));
    }
}

TEST_CASE("words: a value is one word, and in quotes harmless without them") {
    CHECK(filled("a ${x}", {{"x", "$6$s.a/lt$h"}}, Syntax::words) == "a $6$s.a/lt$h");
    CHECK(filled("a '${x}'", {{"x", "$6$s b"}}, Syntax::words) == "a '$6$s b'");
    CHECK(filled("a \"${x}\"", {{"x", "ssh-ed25519 AAAA+/= me@home"}}, Syntax::words) ==
          "a \"ssh-ed25519 AAAA+/= me@home\"");
    for (auto text : {"a ${x}", "a '${x}'", "a \"${x}\""})
        for (auto bad : {"a;b", "a|b", "a&b", "a`b", "a(b", "a>b", "a<b", "a\nb", "a\\", "a'b",
                         "a\"b", "a#b", "a*b", "a{b", "a\tb", "\xc3\xa9", "a$"}) {
            INFO(text << " with " << bad);
            CHECK(refused(text, bad, Syntax::words));
        }
    CHECK(refused("a ${x}", "a b", Syntax::words));
    CHECK(refused("a ${x}", "--root", Syntax::words));
    CHECK(refused("a \"${x}\"", "$HOME", Syntax::words));
}

TEST_CASE("lines: a value is the rest of one") {
    CHECK(filled("Public ssh key for user = ${x}\n", {{"x", "ssh-ed25519 AAAA 'me\" # = é"}},
                 Syntax::lines) == "Public ssh key for user = ssh-ed25519 AAAA 'me\" # = é\n");
    for (auto bad : {"a\nb", "a\rb", " a", "a ", "a\x7f"})
        CHECK(refused("x = ${x}", bad, Syntax::lines));
}
