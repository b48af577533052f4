// Signatures and lists of files.

#include "keys.h"

using namespace vmhost;
using namespace vmhost::sets;

namespace {

ErrorKind kind_of_sums(const std::string& text) {
    auto sums = parse_sums(text);
    return sums ? ErrorKind::internal : sums.error().kind();
}

} // namespace

TEST_CASE("a key of OpenBSD is read") {
    // openbsd-73-base.pub, whose number signify(1) prints nowhere: it is in the first bytes.
    auto key = parse_public_key("untrusted comment: openbsd 7.3 public key\n"
                                "RWQS90bYzZ4XFms5z9OodrFABHMQnW6htU+4Tmp88NuQiTEezMm2cQ3K\n");
    REQUIRE(key);
    CHECK(key->number == KeyNumber{0x12, 0xf7, 0x46, 0xd8, 0xcd, 0x9e, 0x17, 0x16});
    for (auto bad :
         {"", "RWQS90bYzZ4XFms5z9OodrFABHMQnW6htU+4Tmp88NuQiTEezMm2cQ3K\n",
          "untrusted comment: x\nRWQS90bYzZ4XFms5z9OodrFABHMQnW6htU+4Tmp88NuQiTEezMm2cQ3K",
          "untrusted comment: x\nRWQS90bYzZ4XFms5z9OodrFABHMQnW6htU+4Tmp88NuQiTEezMm2cQ\n",
          "untrusted comment: x\nXXQS90bYzZ4XFms5z9OodrFABHMQnW6htU+4Tmp88NuQiTEezMm2cQ3K\n",
          "untrusted comment: x\nRWQS90bYzZ4XFms5z9OodrFABHMQnW6htU+4Tmp88NuQiTEezMm2cQ3K\nx",
          "untrusted comment: x\n\n", "untrusted comment: x\n===="})
        CHECK_FALSE(parse_public_key(bad));
    CHECK_FALSE(parse_public_key("untrusted comment: " + std::string(2000, 'x') +
                                 "\nRWQS90bYzZ4XFms5z9OodrFABHMQnW6htU+4Tmp88NuQiTEezMm2cQ3K\n"));
}

TEST_CASE("what was signed is told from everything else") {
    const Signer signer(1), other(2);
    const auto key = parse_public_key(signer.public_text()).value();
    const auto text = signer.sign("the message\n");
    auto message = verify_signed(text, key);
    REQUIRE(message);
    CHECK(*message == "the message\n");
    CHECK(signer_of(text) == signer.number());
    CHECK(verify_signed(other.sign("the message\n"), key).error().kind() == ErrorKind::denied);
    // The number of the right key on another's signature.
    Signer forger(2);
    forger.set_number(signer.number());
    CHECK(verify_signed(forger.sign("the message\n"), key).error().text() ==
          "its signature is wrong");
    CHECK(verify_signed("the message\n", key).error().kind() == ErrorKind::corrupt);
    CHECK(verify_signed(text + "more\n", key).error().kind() == ErrorKind::denied);
    // Only the comment, that nobody vouches for, may change.
    const auto second_line = text.find('\n') + 1;
    for (std::size_t i = second_line; i < text.size(); ++i) {
        auto changed = text;
        changed[i] = changed[i] == 'A' ? 'B' : 'A';
        INFO(i);
        CHECK_FALSE(verify_signed(changed, key));
        CHECK_FALSE(verify_signed(text.substr(0, i), key));
    }
}

TEST_CASE("sums of files") {
    auto sums = parse_sums(sum_line("base78.tgz", "base") + sum_line("INSTALL.amd64", "i") +
                           sum_line("a+b_c-d", "x"));
    REQUIRE(sums);
    REQUIRE(sums->size() == 3);
    CHECK((*sums)[0].name == "base78.tgz");
    CHECK((*sums)[0].sha256[0] == std::stoul(hex_sum("base").substr(0, 2), nullptr, 16));
    CHECK(parse_sums("")->empty());
}

TEST_CASE("names of a list cannot lead elsewhere") {
    for (auto bad : {"../x", "a/b", "/etc/passwd", ".hidden", "..", ".", "", "a b", "-rf", "a\tb",
                     "a\\b", "\xc3\xa4", "a\x01", "a)(b"}) {
        INFO(bad);
        CHECK(kind_of_sums(sum_line(bad, "x")) == ErrorKind::corrupt);
    }
    CHECK(kind_of_sums(sum_line(std::string(129, 'a'), "x")) == ErrorKind::corrupt);
    CHECK(kind_of_sums(sum_line("a", "x") + sum_line("a", "x")) == ErrorKind::corrupt);
    auto line = sum_line("a", "x");
    for (const auto& bad : std::vector<std::string>{
             "MD5 (a) = 00\n", "SHA256 (a) = 00\n", "\n", "SHA256 (a)= " + hex_sum("x"),
             line.substr(0, line.size() - 2), " " + line, "SHA256 (a) = " + std::string(64, 'g')})
        CHECK(kind_of_sums(bad) == ErrorKind::corrupt);
    std::string many;
    for (std::size_t i = 0; i <= limits::max_set_files; ++i)
        many += sum_line(fmt::format("f{}", i), "x");
    CHECK(kind_of_sums(many) == ErrorKind::limit);
}

TEST_CASE("versions and architectures") {
    for (auto good : {"7.8", "10.0", "snapshots"})
        CHECK(is_version(good));
    for (auto bad : {"", "7", "7.", ".8", "7.8.1", "..", "a.b", "7.8/x", "snapshot"})
        CHECK_FALSE(is_version(bad));
    CHECK(is_arch("amd64"));
    for (auto bad : {"", "../x", "AMD64", "a b", "aaaaaaaaaaaaaaaaa"})
        CHECK_FALSE(is_arch(bad));
}
