// Host keys as OpenSSH reads them.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <sys/wait.h>
#include <unistd.h>

#include "install/install.h"

using namespace vmhost;
using namespace vmhost::install;

namespace {

std::array<std::uint8_t, 32> counting() {
    std::array<std::uint8_t, 32> seed{};
    for (std::uint8_t i = 0; i < seed.size(); ++i)
        seed[i] = i;
    return seed;
}

// What ssh-keygen -y says of a file with the text; nothing when it refuses it.
std::string public_of(const std::string& text) {
    char path[] = "/tmp/host-key-XXXXXX";
    Fd file(::mkstemp(path));
    REQUIRE(file);
    REQUIRE(::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    int out[2];
    REQUIRE(::pipe2(out, O_CLOEXEC) == 0);
    Fd read_end(out[0]), write_end(out[1]);
    auto child = ::fork();
    if (child == 0) {
        ::dup2(write_end.get(), 1);
        ::execlp("ssh-keygen", "ssh-keygen", "-y", "-P", "", "-f", path, nullptr);
        ::_exit(127);
    }
    write_end.reset();
    std::string said;
    char buffer[4096];
    for (ssize_t count; (count = ::read(read_end.get(), buffer, sizeof(buffer))) > 0;)
        said.append(buffer, static_cast<std::size_t>(count));
    int status = 0;
    ::waitpid(child, &status, 0);
    ::unlink(path);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? said : "";
}

} // namespace

// The seed's public key is what other implementations of RFC 8032 make of it.
TEST_CASE("a seed has its key, and the text its form") {
    auto key = host_key_of(counting(), 0x01020304, "root@puffy");
    REQUIRE(key);
    CHECK(key->public_line ==
          "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4 "
          "root@puffy");
    CHECK(key->private_text.starts_with(
        "-----BEGIN OPENSSH PRIVATE KEY-----\n"
        "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMw"));
    CHECK(key->private_text.ends_with("\n-----END OPENSSH PRIVATE KEY-----\n"));
    CHECK(host_key_of(counting(), 0x01020304, "root@puffy")->private_text == key->private_text);
    CHECK_FALSE(host_key_of(counting(), 1, "two\nlines"));
    CHECK_FALSE(host_key_of(counting(), 1, std::string(257, 'c')));
}

TEST_CASE("ssh-keygen reads what is written, whatever the length of the comment") {
    if (std::system("command -v ssh-keygen >/dev/null") != 0) {
        WARN("there is no ssh-keygen here");
        return;
    }
    for (std::size_t length = 0; length < 20; ++length) {
        const std::string comment(length, 'c');
        auto key = make_host_key(comment);
        REQUIRE(key);
        INFO(key->public_line);
        // Older ones do not print the comment.
        auto said = public_of(key->private_text);
        CHECK(said.substr(0, said.find_last_not_of("c \n") + 1) ==
              key->public_line.substr(0, key->public_line.find_last_not_of("c ") + 1));
        CHECK(said.size() > 80);
    }
    auto broken = make_host_key("x")->private_text;
    broken[200] = broken[200] == 'A' ? 'B' : 'A';
    CHECK(public_of(broken).empty());
}

TEST_CASE("no two are alike") {
    auto one = make_host_key("x"), other = make_host_key("x");
    REQUIRE((one && other));
    CHECK(one->public_line != other->public_line);
    CHECK(one->private_text != other->private_text);
}
