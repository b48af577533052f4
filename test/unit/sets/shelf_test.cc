// Directories of sets.

#include "keys.h"

#include <filesystem>
#include <fstream>

using namespace vmhost;
using namespace vmhost::sets;

namespace {

struct Shelf {
    Shelf() {
        char name[] = "/tmp/vmhost-sets-XXXXXX";
        path = ::mkdtemp(name);
        for (auto folder : {"7.8/amd64", "keys", ".fetch-7.8-amd64", "other/amd64", "7.8/.hidden"})
            std::filesystem::create_directories(path + "/" + folder);
        write("keys/openbsd-78-base.pub", signer.public_text());
        write("keys/openbsd-77-base.pub", Signer(7).public_text());
        write("7.8/amd64/base78.tgz", "base");
        write("7.8/amd64/SHA256.sig",
              signer.sign(sum_line("base78.tgz", "base") + sum_line("comp78.tgz", "comp")));
    }
    ~Shelf() { std::filesystem::remove_all(path); }
    void write(const std::string& name, const std::string& content) {
        std::ofstream(path + "/" + name) << content;
    }
    Result<Verified> verify() { return verify_sets(path, "7.8", "amd64", path + "/keys", {}); }

    Signer signer{1};
    std::string path;
};

} // namespace

TEST_CASE("records come back") {
    const Record record{1'700'000'000, "openbsd-78-base.pub", {"bsd", "base78.tgz"}};
    CHECK(parse_record(record_text(record)).value() == record);
    for (auto bad : {"", "time\n", "time x\nkey a\n", "time 5\n", "key a\n",
                     "time 5\nkey a\nwhat b\n", "time 5x\nkey a\n", "time 5\nkey \n"})
        CHECK_FALSE(parse_record(bad));
}

TEST_CASE("sets are listed") {
    Shelf shelf;
    auto found = list_sets(shelf.path);
    REQUIRE(found);
    REQUIRE(found->size() == 1);
    CHECK(found->at(0).version == "7.8");
    CHECK(found->at(0).arch == "amd64");
    CHECK_FALSE(found->at(0).record);
    CHECK(found->at(0).files == 2);
    shelf.write("7.8/amd64/.verified", record_text({5, "k", {"base78.tgz"}}));
    CHECK(list_sets(shelf.path)->at(0).record->time_s == 5);
    CHECK(list_sets("/does/not/exist").error().kind() == ErrorKind::not_found);
}

TEST_CASE("sets are compared with what was signed") {
    Shelf shelf;
    auto verified = shelf.verify();
    REQUIRE(verified);
    CHECK(verified->good()); // who put them there left comp78.tgz out
    CHECK(verified->files == 1);
    CHECK(verified->key == "openbsd-78-base.pub");
    shelf.write("7.8/amd64/.verified", record_text({5, "k", {"base78.tgz", "comp78.tgz"}}));
    CHECK(shelf.verify()->missing == std::vector<std::string>{"comp78.tgz"});
    shelf.write("7.8/amd64/base78.tgz", "basf");
    CHECK(shelf.verify()->bad == std::vector<std::string>{"base78.tgz"});
    // The list of another release is none of this.
    shelf.write("7.8/amd64/SHA256.sig", Signer(7).sign(sum_line("base78.tgz", "basf")));
    CHECK(shelf.verify().error().kind() == ErrorKind::denied);
    std::filesystem::remove(shelf.path + "/keys/openbsd-78-base.pub");
    CHECK(shelf.verify().error().kind() == ErrorKind::not_found);
}

TEST_CASE("snapshots may be signed by the key of any release") {
    Shelf shelf;
    auto keys = keys_for(shelf.path + "/keys", "snapshots");
    REQUIRE(keys);
    CHECK(keys->size() == 2);
    CHECK(verify_sums(Signer(7).sign(sum_line("a", "x")), *keys)->key == "openbsd-77-base.pub");
    CHECK(verify_sums(shelf.signer.sign(sum_line("a", "x")), *keys)->key == "openbsd-78-base.pub");
    CHECK(verify_sums(Signer(9).sign(sum_line("a", "x")), *keys).error().kind() ==
          ErrorKind::denied);
}
