// What a dry run shows of a file.
#include <catch2/catch.hpp>

#include "cli/text_diff.h"

using vmhost::cli::text_diff;

TEST_CASE("equal texts have no difference") {
    CHECK(text_diff("", "") == "");
    CHECK(text_diff("a\nb\n", "a\nb\n") == "");
}

TEST_CASE("changed, added and removed lines, each where it is") {
    CHECK(text_diff("a\nb\nc\n", "a\nx\nc\n") == "@@ line 2\n-b\n+x\n");
    CHECK(text_diff("a\n", "a\nb\nc\n") == "@@ line 2\n+b\n+c\n");
    CHECK(text_diff("a\nb\nc\n", "b\n") == "@@ line 1\n-a\n@@ line 3\n-c\n");
    CHECK(text_diff("a\nb\nc\nd\n", "a\nx\nc\ny\n") == "@@ line 2\n-b\n+x\n@@ line 4\n-d\n+y\n");
    CHECK(text_diff("", "a") == "@@ line 1\n+a\n");
}

TEST_CASE("passwords are not shown") {
    CHECK(text_diff("", "password = \"geheim\"\nroot_password=\"x\"\nsshkey = \"k a geheim\"\n"
                        "install = { password = \"geheim\" }\n# password\n") ==
          "@@ line 1\n+password = …\n+root_password= …\n+sshkey = …\n+install = …\n+# password\n");
}

TEST_CASE("texts of which little is alike are shown whole") {
    std::string a, b;
    for (int i = 0; i < 3000; ++i) {
        a += "a" + std::to_string(i) + "\n";
        b += "b" + std::to_string(i) + "\n";
    }
    auto out = text_diff(a, b);
    CHECK(out.starts_with("@@ line 1\n-a0\n"));
    CHECK(out.ends_with("+b2999\n"));
}
