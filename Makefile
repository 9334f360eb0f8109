# libspool. `make help` lists the targets; everything is built under build/.
#
# One non-recursive makefile. Sources are found by folder, so that a new file needs no line here. SANITIZE=address,undefined
# or thread builds the same tree into build/<name>/.

# Builds in parallel where a target builds much, unless make was told otherwise.
JOBS      := $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))
VERSION   := 0.1.0
SOVERSION := 0
PREFIX    ?= /usr/local
BUILD     := build$(if $(VARIANT),/$(VARIANT))

CC        ?= gcc
WARN      := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Wno-sign-conversion -Wvla -Wundef
OPT       ?= -O2 -g
SANFLAGS  := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all)
CPPFLAGS  += -D_GNU_SOURCE -DSPOOL_BUILD_VERSION='"$(VERSION)"'
ALLCFLAGS := -std=c11 $(OPT) $(WARN) $(if $(WERROR),-Werror) -fPIC -pthread $(SANFLAGS) $(CFLAGS)
LIBS      := -llmdb -ljansson -lzstd -pthread

# One line a step; V=1 shows the commands.
Q         := $(if $(V),,@)
say        = $(if $(V),,@echo '  $(1) $(subst $(CURDIR)/,,$@)')

# Sinks that are plugins: delivery/sinks/<kind>.c and <kind>_*.c, none of which is part of the library. Of each: what
# pkg-config calls its library (none: it needs none), and the Debian package of that.
PLUGIN_KINDS := exec http kafka nats otlp postgres redis sqlite syslog
PLUGIN_PC_http     := libcurl libzstd zlib
PLUGIN_DEB_http    := libcurl4-openssl-dev zlib1g-dev
PLUGIN_PC_kafka    := rdkafka
PLUGIN_DEB_kafka   := librdkafka-dev
PLUGIN_PC_nats     := libnats
PLUGIN_DEB_nats    := libnats-dev
PLUGIN_PC_otlp     := libcurl libzstd zlib
PLUGIN_DEB_otlp    := libcurl4-openssl-dev zlib1g-dev
PLUGIN_PC_postgres := libpq
PLUGIN_DEB_postgres := libpq-dev
PLUGIN_PC_redis    := hiredis openssl
PLUGIN_DEB_redis   := libhiredis-dev libssl-dev
PLUGIN_PC_sqlite   := sqlite3
PLUGIN_DEB_sqlite  := libsqlite3-dev
PLUGIN_PC_syslog   := openssl
PLUGIN_DEB_syslog  := libssl-dev
# What a plugin takes of another one's files, such as PLUGIN_SRC_otlp := delivery/sinks/http_transfer.c
PLUGIN_SRC_otlp    := $(wildcard delivery/sinks/http_client.c delivery/sinks/http_handle.c delivery/sinks/http_settings.c delivery/sinks/http_compress.c delivery/sinks/http_status.c)

plugin_src     = $(sort $(wildcard delivery/sinks/$(1).c delivery/sinks/$(1)_*.c) $(PLUGIN_SRC_$(1)))
PLUGIN_ALL    := $(foreach kind,$(PLUGIN_KINDS),$(if $(wildcard delivery/sinks/$(kind).c),$(kind)))
PLUGIN_CAN    := $(foreach kind,$(PLUGIN_ALL),$(if $(PLUGIN_PC_$(kind)),$(if $(shell pkg-config --exists $(PLUGIN_PC_$(kind)) && echo yes),$(kind)),$(kind)))
PLUGIN_HELPER := $(sort $(wildcard delivery/sinks/plugin_*.c))
PLUGIN_OWN    := $(sort $(foreach kind,$(PLUGIN_ALL),$(call plugin_src,$(kind))) $(PLUGIN_HELPER))
# Of the library, what plugins may be linked with too: nothing that defines a spool_*.
PLUGIN_BASE   := $(patsubst %,lib/base/%.c,base64 buffer event_json json_media json_scan json_tree json_write sync time units utf8) delivery/sinks/config.c

LIB_SRC   := $(filter-out $(PLUGIN_OWN),$(sort $(wildcard lib/*.c lib/base/*.c clock/*.c spool/*.c delivery/*.c delivery/sinks/*.c)))
TOOL_SRC  := $(sort $(wildcard tools/*.c))
UNIT_SRC  := $(sort $(wildcard tests/unit/test_*.c))
# kafka_mock.c is librdkafka's.
PROG_SRC  := $(sort $(filter-out $(if $(filter kafka,$(PLUGIN_CAN)),,%/kafka_mock.c),$(wildcard tests/programs/*.c)))
EX_SRC    := $(filter-out examples/sink_template.c,$(sort $(wildcard examples/*.c)))
BENCH_SRC := $(sort $(wildcard bench/*.c))
# Of sinks: drive.c, and raw_<kind>.c, which does with the kind's library alone what the sink does.
BENCH_SINKS_SRC := $(sort bench/sinks/drive.c $(foreach kind,null file $(PLUGIN_CAN),$(wildcard bench/sinks/raw_$(kind).c)))
GUARD_SRC := bench/guard/paths.c
LABS      := $(sort $(foreach dir,$(wildcard tests/lab/*/),$(if $(wildcard $(dir)*.c),$(notdir $(dir:/=)))))
LAB_SRC   := $(sort $(wildcard tests/lab/*/*.c))
MAN       := $(sort $(wildcard man/*.[0-9]))
-include $(wildcard tests/lab/*/flags.mk)

obj        = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB_OBJ   := $(call obj,$(LIB_SRC))
PLUGINS   := $(patsubst %,$(BUILD)/sinks/libspool-sink-%.so,$(PLUGIN_CAN))
ALL_OBJ   := $(call obj,$(LIB_SRC) $(PLUGIN_OWN) $(TOOL_SRC) $(UNIT_SRC) $(PROG_SRC) $(EX_SRC) $(BENCH_SRC) $(GUARD_SRC) $(BENCH_SINKS_SRC) $(LAB_SRC))
UNIT      := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(UNIT_SRC))
PROG      := $(patsubst tests/programs/%.c,$(BUILD)/programs/%,$(PROG_SRC))
EXAMPLES  := $(patsubst examples/%.c,$(BUILD)/examples/%,$(EX_SRC))
BENCHES   := $(BUILD)/bench/bench $(BUILD)/bench/guard
BENCH_SINKS := $(patsubst bench/sinks/%.c,$(BUILD)/bench/sinks/%,$(BENCH_SINKS_SRC))

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all help deps demo check clean
all: deps-quick $(BUILD)/libspool.a $(BUILD)/libspool.so.$(SOVERSION) $(if $(TOOL_SRC),$(BUILD)/spool) $(BUILD)/libspool.pc $(EXAMPLES) plugins ## the library, the command, the plugins, the examples

help: ## this list
	@grep -hE '^[a-z][a-z.-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z.-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-16s %s\n", $$1, $$2}'

# ---------------------------------------------------------------------------------------------------- what it needs
PACKAGES := gcc make pkg-config liblmdb-dev libjansson-dev libzstd-dev
# Servers and clients that the tests of sinks talk to.
SERVER_PACKAGES := nginx-light openssl zstd
SERVER_PACKAGES += sqlite3 postgresql
SERVER_PACKAGES += rsyslog rsyslog-gnutls
SERVER_PACKAGES += redis-server redis-tools nats-server
SERVER_PACKAGES += protobuf-compiler python3-protobuf
CHECK_PACKAGES := $(PACKAGES) check valgrind mandoc python3 binutils clang libclang-rt-14-dev spin chrony \
                  $(sort $(foreach kind,$(PLUGIN_ALL),$(PLUGIN_DEB_$(kind)))) $(SERVER_PACKAGES)
.PHONY: deps deps-quick
deps: ## install missing packages with apt (asks sudo when not root)
	@tests/tools/install-packages $(CHECK_PACKAGES)
deps-quick:
	@tests/tools/install-packages $(PACKAGES)

# ------------------------------------------------------------------------------------------------------- compiling
$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC  )
	$(Q)$(CC) $(ALLCFLAGS) $(CPPFLAGS) -MMD -MP -c -o $@ $<
-include $(ALL_OBJ:.o=.d)

# The static library is one object in which only spool_* is global, so that no name of ours meets one of the host's.
$(BUILD)/libspool.a: $(LIB_OBJ)
	$(call say,AR  )
	$(Q)ld -r -o $(BUILD)/libspool-whole.o $(LIB_OBJ)
	$(Q)objcopy --wildcard --keep-global-symbol='spool_*' $(BUILD)/libspool-whole.o
	$(Q)rm -f $@ && ar rcs $@ $(BUILD)/libspool-whole.o

$(BUILD)/libspool.so.$(SOVERSION): $(LIB_OBJ) lib/libspool.map
	$(call say,LINK)
	$(Q)$(CC) -shared -Wl,-soname,libspool.so.$(SOVERSION) -Wl,--version-script=lib/libspool.map -Wl,-z,defs $(SANFLAGS) -o $@ $(LIB_OBJ) $(LIBS) $(LDFLAGS)
	$(Q)ln -sf libspool.so.$(SOVERSION) $(BUILD)/libspool.so

# Tests see the inside.
$(BUILD)/libspool-inside.a: $(LIB_OBJ)
	$(call say,AR  )
	$(Q)rm -f $@ && ar rcs $@ $^

# Plugins: linked with the helpers they use, and export nothing but their description.
SINK_DIR := $(PREFIX)/lib/libspool
plugin_helpers := $(BUILD)/sinks/helpers.a
$(plugin_helpers): $(call obj,$(PLUGIN_HELPER) $(PLUGIN_BASE))
	@install -d -m 755 $(@D)
	$(call say,AR  )
	$(Q)rm -f $@ && ar rcs $@ $^
define PLUGIN
$(call obj,$(call plugin_src,$(1))): ALLCFLAGS += $(if $(PLUGIN_PC_$(1)),$(shell pkg-config --cflags $(PLUGIN_PC_$(1))))
$(BUILD)/sinks/libspool-sink-$(1).so: $(call obj,$(call plugin_src,$(1))) $(plugin_helpers) delivery/sinks/plugin.map
	@install -d -m 755 $$(@D)
	$$(call say,LINK)
	$$(Q)$$(CC) -shared -Wl,--version-script=delivery/sinks/plugin.map -Wl,-z,defs $$(SANFLAGS) -o $$@ $$(filter %.o %.a,$$^) \
	    $(if $(PLUGIN_PC_$(1)),$(shell pkg-config --libs $(PLUGIN_PC_$(1)))) $$(PLUGIN_LIBS_$(1)) -ljansson -pthread $$(LDFLAGS)
endef
$(foreach kind,$(PLUGIN_CAN),$(eval $(call PLUGIN,$(kind))))
.PHONY: plugins
plugins: $(PLUGINS)
	$(foreach kind,$(filter-out $(PLUGIN_CAN),$(PLUGIN_ALL)),@echo '  the $(kind) sink is not built: it needs $(PLUGIN_DEB_$(kind))')
# Plugins of the tests, made as somebody outside makes one: from spool.h alone. old.c has a frozen copy of it.
TEST_PLUGINS := $(BUILD)/tests/plugins/libspool-sink-echo.so $(BUILD)/tests/plugins/libspool-sink-old.so \
                $(BUILD)/tests/plugins/soak/libspool-sink-member.so
$(BUILD)/tests/plugins/libspool-sink-%.so: tests/plugins/%.c lib/spool.h tests/plugins/abi1/spool.h
	@install -d -m 755 $(@D)
	$(call say,LINK)
	$(Q)$(CC) -std=c11 -Wall -Wextra -Wmissing-prototypes -Werror $(OPT) $(SANFLAGS) -shared -fPIC -I$(if $(filter old,$*),tests/plugins/abi1,lib) -o $@ $< $(LDFLAGS)
# In a folder of its own, so that tests which list the folder do not meet it.
$(BUILD)/tests/plugins/soak/libspool-sink-member.so: tests/plugins/member.c lib/spool.h
	@install -d -m 755 $(@D)
	$(call say,LINK)
	$(Q)$(CC) -std=c11 -Wall -Wextra -Wmissing-prototypes -Werror $(OPT) $(SANFLAGS) -shared -fPIC -Ilib -o $@ $< $(LDFLAGS)
$(BUILD)/tests/test_plugin $(BUILD)/lab/sweep: | $(TEST_PLUGINS)
$(BUILD)/obj/tests/unit/test_plugin.o: CPPFLAGS += -DTEST_PLUGINS='"$(abspath $(BUILD))/tests/plugins"' -DTEST_SOURCES='"$(CURDIR)"'
# The library knows the folder that plugins are installed into, and is made anew for another PREFIX.
$(BUILD)/sink-dir: FORCE
	@mkdir -p $(@D) && { echo '$(SINK_DIR)' | cmp -s - $@ || echo '$(SINK_DIR)' > $@; }
.PHONY: FORCE
FORCE:
$(BUILD)/obj/delivery/plugin_search.o: $(BUILD)/sink-dir
$(BUILD)/obj/delivery/plugin_search.o: CPPFLAGS += -DSPOOL_SINK_DIR='"$(SINK_DIR)"'

$(BUILD)/libspool.pc: lib/libspool.pc.in Makefile
	@mkdir -p $(@D)
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' $< > $@

$(BUILD)/spool: $(call obj,$(TOOL_SRC)) $(BUILD)/libspool.a
	$(call say,LINK)
	$(Q)$(CC) $(SANFLAGS) -o $@ $^ $(LIBS) $(LDFLAGS)
$(EXAMPLES): $(BUILD)/examples/%: $(BUILD)/obj/examples/%.o $(BUILD)/libspool.a
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) $(SANFLAGS) -o $@ $^ $(LIBS) $(LDFLAGS)
$(UNIT): $(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.o $(BUILD)/libspool-inside.a
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) $(SANFLAGS) -o $@ $^ $(LIBS) -lcheck -lsubunit -lm -lrt $(LDFLAGS)
$(BUILD)/programs/kafka_mock: LIBS += -lrdkafka
# Its malloc() and the like stand before those of the C library also for plugins.
$(BUILD)/programs/sink_faults: LIBS += -lcheck -lsubunit -lm -lrt -rdynamic
$(PROG): $(BUILD)/programs/%: $(BUILD)/obj/tests/programs/%.o $(BUILD)/libspool.a
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) $(SANFLAGS) -o $@ $^ $(LIBS) $(LDFLAGS)
$(BUILD)/bench/bench: $(call obj,$(BENCH_SRC)) $(BUILD)/libspool.a
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) $(SANFLAGS) -o $@ $^ $(LIBS) -ldl $(LDFLAGS)
$(BUILD)/bench/guard: $(call obj,$(GUARD_SRC)) $(BUILD)/libspool-inside.a
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) $(SANFLAGS) -o $@ $^ $(LIBS) $(LDFLAGS)
bench_kind = $(patsubst raw_%,%,$(notdir $(1)))
$(BENCH_SINKS): $(BUILD)/bench/sinks/%: $(BUILD)/obj/bench/sinks/%.o $(BUILD)/libspool.a
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) $(SANFLAGS) -o $@ $^ $(if $(PLUGIN_PC_$(call bench_kind,$@)),$(shell pkg-config --libs $(PLUGIN_PC_$(call bench_kind,$@)))) $(LIBS) -lm $(LDFLAGS)
$(foreach kind,$(PLUGIN_CAN),$(if $(PLUGIN_PC_$(kind)),$(eval $(BUILD)/obj/bench/sinks/raw_$(kind).o: ALLCFLAGS += $(shell pkg-config --cflags $(PLUGIN_PC_$(kind))))))

# The fault laboratory: each folder of tests/lab/ is one program; its flags.mk says what else it is compiled and linked with.
define LAB
$(BUILD)/lab/$(1): $(call obj,$(sort $(wildcard tests/lab/$(1)/*.c) $(wildcard tests/lab/common/*.c))) $(BUILD)/libspool-inside.a $(wildcard tests/lab/$(1)/flags.mk)
	@mkdir -p $$(@D)
	$$(call say,LINK)
	$$(Q)$$(CC) $$(SANFLAGS) -rdynamic $$(LAB_LDFLAGS_$(1)) -o $$@ $$(filter-out %.mk,$$^) $$(LIBS) -lm -ldl $$(LDFLAGS)
$(BUILD)/obj/tests/lab/$(1)/%.o: ALLCFLAGS += $$(LAB_CFLAGS_$(1))
endef
$(foreach lab,$(filter-out common,$(LABS)),$(eval $(call LAB,$(lab))))

.PHONY: units programs benches labs
labs: $(patsubst %,$(BUILD)/lab/%,$(filter-out common,$(LABS)))
units: $(UNIT) plugins $(TEST_PLUGINS)
programs: plugins $(TEST_PLUGINS) $(PROG) $(if $(TOOL_SRC),$(BUILD)/spool) $(EXAMPLES)
benches: $(BENCHES)

# ------------------------------------------------------------------------------------------------------- main jobs
demo: all ## the main job: an agent is killed again and again, and nothing is lost (SESSION=file.jsonl takes another session)
	@BUILD=$(BUILD) tests/demo.sh $(SESSION)

# What `make check` runs: unit tests, system tests, short forms of the fault laboratory, the documentation's examples,
# sanitizers, valgrind.
# The long ones of the laboratory come first, so that two at a time end together.
CHECK_SCRIPTS := $(wildcard tests/lab/*/check.* tests/models/check.sh) $(sort $(wildcard tests/cli/*.sh tests/system/*.py \
                     tests/crash/*.py tests/docs/*.sh tests/docs/*.py tests/build/*.sh \
                     tests/sinks/*.sh tests/sinks/*.py)) bench/guard/guard.py
# ThreadSanitizer for what has threads; valgrind for what has neither many threads nor many processes.
TSAN_UNIT     := $(patsubst %,build/tsan/tests/test_%, \
                     ahead \
                     clock \
                     clock_sntp \
                     clock_sources \
                     committer \
                     config \
                     delivery \
                     delivery_checkpoint \
                     delivery_keys \
                     delivery_order \
                     delivery_outage \
                     delivery_refused \
                     delivery_retry \
                     delivery_stop \
                     filter \
                     journal \
                     journal_flush \
                     lanes \
                     lock \
                     log \
                     log_peers \
                     op_core \
                     ops \
                     ops_stop \
                     plugin \
                     public \
                     public_ops \
                     public_resources \
                     public_peers \
                     sink_file \
                     sink_partition \
                     sink_rotation \
                     sink_tend \
                     state \
                     state_ack \
                     store \
                     store_lost \
                     store_remains \
                     sync \
                     wake \
                     )
ASAN_UNIT     := $(UNIT:$(BUILD)/%=build/asan/%)
# The seed is the same each time: a change is judged by itself, not by its luck. The long targets draw another each time.
check: ## all tests (installs what they need); ends with "N passed, 0 failed" (SEED, 1)
	@tests/tools/install-packages $(CHECK_PACKAGES)
	@$(MAKE) $(JOBS) --no-print-directory all units programs benches labs $(BUILD)/libspool-inside.a WERROR=1
	@$(MAKE) $(JOBS) --no-print-directory units VARIANT=asan SANITIZE=address,undefined OPT='-O1 -g'
	@$(MAKE) $(JOBS) --no-print-directory $(TSAN_UNIT) VARIANT=tsan SANITIZE=thread OPT='-O1 -g'
	@BUILD=$(BUILD) OPT='$(OPT)' CC='$(CC)' JOBS=2 LIMIT=900 SEED=$(or $(SEED),1) \
		tests/run $(CHECK_SCRIPTS) $(UNIT) $(ASAN_UNIT) $(TSAN_UNIT)

.PHONY: units-only asan ubsan tsan valgrind lint format coverage crash large fuzz bench bench-quick bench-readme guard guard-update
units-only: units ## the unit tests alone
	@BUILD=$(BUILD) tests/run $(UNIT)
asan: ## unit tests under AddressSanitizer
	@$(MAKE) $(JOBS) --no-print-directory units VARIANT=asan SANITIZE=address,undefined OPT='-O1 -g'
	@tests/run $(UNIT:$(BUILD)/%=build/asan/%)
ubsan: ## unit tests under UndefinedBehaviorSanitizer
	@$(MAKE) $(JOBS) --no-print-directory units VARIANT=ubsan SANITIZE=undefined OPT='-O1 -g'
	@tests/run $(UNIT:$(BUILD)/%=build/ubsan/%)
tsan: ## unit tests with threads under ThreadSanitizer
	@$(MAKE) $(JOBS) --no-print-directory $(TSAN_UNIT) VARIANT=tsan SANITIZE=thread OPT='-O1 -g'
	@tests/run $(TSAN_UNIT)
valgrind: units ## unit tests under valgrind
	@tests/run --wrap 'valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite --child-silent-after-fork=yes' $(UNIT)

C_FILES := $(sort $(wildcard lib/*.[ch] lib/base/*.[ch] clock/*.[ch] spool/*.[ch] delivery/*.[ch] delivery/sinks/*.[ch] \
             tools/*.[ch] examples/*.[ch] tests/*.h tests/unit/*.[ch] tests/programs/*.[ch] tests/plugins/*.[ch] tests/fuzz/*.[ch] tests/lab/*/*.[ch] bench/*.[ch] \
             bench/guard/*.[ch] bench/sinks/*.[ch]))
lint: ## clang-tidy and cppcheck
	@tests/tools/install-packages clang-tidy cppcheck $(PACKAGES)
	cppcheck --std=c11 --enable=warning,portability,performance --inline-suppr --error-exitcode=1 --quiet -j2 \
	    --suppress=missingIncludeSystem -D_GNU_SOURCE -D__linux__ lib clock spool delivery tools
	clang-tidy --quiet $(LIB_SRC) $(TOOL_SRC) -- -std=c11 -D_GNU_SOURCE -DSPOOL_BUILD_VERSION='"$(VERSION)"'
format: ## clang-format over all C files
	@tests/tools/install-packages clang-format
	clang-format -i $(C_FILES)
# What runs in children that are killed is not counted; what runs in those that end by _exit() is (coverage_exit.c). Left out:
# what compiles a program of its own, and what keeps files from growing, also those of gcov.
COVERAGE_RUNS := $(filter-out tests/cli/dlq.sh tests/system/rlimits.py,$(wildcard tests/cli/*.sh tests/system/*.py \
                     tests/crash/*.py tests/lab/sweep/check.* tests/lab/sim/check.* tests/lab/wreck/check.*))
COVERAGE_FLAGS := OPT='-O0 -g --coverage -fprofile-update=atomic' LDFLAGS='--coverage $(CURDIR)/build/coverage/exit.o'
coverage: ## branch coverage of lib, clock, spool and delivery by the unit tests, system tests and the laboratory, as a table
	@tests/tools/install-packages gcovr $(CHECK_PACKAGES)
	@mkdir -p build/coverage && $(CC) -std=c11 -D_GNU_SOURCE -O1 -c -o build/coverage/exit.o tests/tools/coverage_exit.c
	@$(MAKE) $(JOBS) --no-print-directory units programs labs VARIANT=coverage $(COVERAGE_FLAGS)
	@find build/coverage -name '*.gcda' -delete
	-@BUILD=build/coverage JOBS=2 LIMIT=900 tests/run $(UNIT:$(BUILD)/%=build/coverage/%) $(COVERAGE_RUNS)
	gcovr --gcov-ignore-parse-errors --root . --object-directory build/coverage --filter 'lib/' --filter 'clock/' --filter 'spool/' --filter 'delivery/' \
	    --exclude-unreachable-branches --branches | tee build/coverage/table.txt

crash: programs ## 200 rounds of killing producers and deliverers at random moments
	@BUILD=$(BUILD) ROUNDS=200 LIMIT=3600 tests/run tests/crash/kill.py
large: programs ## a backlog of 4 GiB: opening time, memory while draining (needs 6 GiB of disk)
	@BUILD=$(BUILD) LARGE=1 LIMIT=1800 tests/run tests/system/large.py
.PHONY: sinks-long
sinks-long: programs ## a million events into a NATS cluster whose leader is killed again and again
	@BUILD=$(BUILD) LONG=1 LIMIT=3600 tests/run --verbose tests/sinks/nats.py
BENCH_FLAGS = $(if $(RESUME),--resume) $(if $(RETRY),--retry) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(ONLY),--only $(ONLY))
bench: benches all ## ours and its peers side by side: results.json, results.md and plots in build/bench (20 minutes, or in parts: RESUME=1 MINUTES=5; BACKLOG=1e8 takes 27 GB)
	@BUILD=$(BUILD) python3 -B bench/run.py $(BENCH_FLAGS)
bench-quick: benches all ## the targets alone, in under two minutes
	@BUILD=$(BUILD) python3 -B bench/run.py --quick $(BENCH_FLAGS)
guard: $(BUILD)/bench/guard ## instruction counts of the hot paths against bench/guard/figures.json
	@tests/tools/install-packages valgrind
	@BUILD=$(BUILD) OPT='$(OPT)' CC='$(CC)' bench/guard/guard.py
guard-update: $(BUILD)/bench/guard ## notes the counts of this state as the figures
	@BUILD=$(BUILD) OPT='$(OPT)' CC='$(CC)' bench/guard/guard.py --update
bench-readme: ## the README's table from build/bench/results.json
	@BUILD=$(BUILD) python3 -B bench/readme.py
.PHONY: bench-sinks
bench-sinks: $(BENCH_SINKS) all ## each sink beside its library's best example, in one run (KINDS, EVENTS, BYTES, ROUNDS)
	@BUILD=$(BUILD) bench/sinks/run.sh

# ------------------------------------------------------------------------------------------- the laboratory, at length
.PHONY: crashlab sweep sim clockworld models wreck history soak
crashlab: labs ## crash images for SECONDS (600): every state in which a disk may be after losing power
	@BUILD=$(BUILD) SECONDS=$(or $(SECONDS),600) LIMIT=86400 tests/run --verbose tests/lab/crashlab/check.sh
sweep: labs ## each call fails once, and from then on, in each of the scenarios
	@BUILD=$(BUILD) SECONDS_SWEEP=$(or $(SECONDS),3600) LIMIT=86400 tests/run --verbose tests/lab/sweep/check.sh
sim: labs ## delivery on a virtual clock: at least a million faults (RUNS, SEED)
	@BUILD=$(BUILD) RUNS=$(or $(RUNS),100000) LIMIT=86400 tests/run --verbose tests/lab/sim/check.sh
clockworld: labs ## machines with wrong clocks: RUNS worlds (20000), SEED
	@BUILD=$(BUILD) RUNS=$(or $(RUNS),20000) LIMIT=86400 tests/run --verbose tests/lab/clockworld/check.sh
wreck: labs ## damaged directories for SECONDS (600)
	@BUILD=$(BUILD) SECONDS=$(or $(SECONDS),600) LIMIT=86400 tests/run --verbose tests/lab/wreck/check.sh
soak: programs ## sinks that fail, hang, forbid and kill the process for SECONDS (600), and then the exact account (SEED)
	@BUILD=$(BUILD) SECONDS=$(or $(SECONDS),600) LIMIT=86400 tests/run --verbose tests/system/soak.py
models: ## the protocols, searched to the end by spin
	@LONG=1 LIMIT=7200 tests/run --verbose tests/models/check.sh
fuzz: ## every fuzz target for FUZZ_SECONDS (default 300) by libFuzzer, then by AFL++
	@tests/tools/install-packages clang libclang-rt-14-dev afl++ $(PACKAGES)
	@BUILD=$(BUILD) FUZZ_SECONDS=$(or $(FUZZ_SECONDS),300) AFL=1 tests/fuzz/fuzz.sh

# --------------------------------------------------------------------------------------------------------- install
.PHONY: install uninstall
SONAME := libspool.so.$(SOVERSION)
MANDIR := $(DESTDIR)$(PREFIX)/share/man
install: all ## into PREFIX (default /usr/local), below DESTDIR
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -m 755 $(BUILD)/spool $(DESTDIR)$(PREFIX)/bin/spool
	install -m 644 $(BUILD)/libspool.a $(DESTDIR)$(PREFIX)/lib/libspool.a
	install -m 755 $(BUILD)/$(SONAME) $(DESTDIR)$(PREFIX)/lib/libspool.so.$(VERSION)
	ln -sf libspool.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libspool.so
	install -m 644 lib/spool.h $(DESTDIR)$(PREFIX)/include/spool.h
	$(if $(PLUGINS),install -d $(DESTDIR)$(SINK_DIR) && install -m 755 $(PLUGINS) $(DESTDIR)$(SINK_DIR)/)
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' lib/libspool.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/libspool.pc
	@for page in $(MAN); do dir=$(MANDIR)/man$${page##*.}; install -d $$dir && install -m 644 $$page $$dir/ || exit 1; \
	    for name in $$(tests/tools/man-names $$page); do ln -sf $${page##*/} $$dir/$$name.$${page##*.} || exit 1; done; done
	@[ -n "$(DESTDIR)" ] || ! [ -w /etc/ld.so.cache ] || PATH=$$PATH:/sbin ldconfig
uninstall: ## what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/spool $(DESTDIR)$(PREFIX)/lib/libspool.a $(DESTDIR)$(PREFIX)/lib/libspool.so.$(VERSION) \
	    $(DESTDIR)$(PREFIX)/lib/$(SONAME) $(DESTDIR)$(PREFIX)/lib/libspool.so $(DESTDIR)$(PREFIX)/include/spool.h \
	    $(DESTDIR)$(PREFIX)/lib/pkgconfig/libspool.pc $(patsubst %,$(DESTDIR)$(SINK_DIR)/libspool-sink-%.so,$(PLUGIN_ALL))
	@! [ -d $(DESTDIR)$(SINK_DIR) ] || rmdir --ignore-fail-on-non-empty $(DESTDIR)$(SINK_DIR)
	@for page in $(MAN); do dir=$(MANDIR)/man$${page##*.}; rm -f $$dir/$${page##*/} || exit 1; \
	    for name in $$(tests/tools/man-names $$page); do rm -f $$dir/$$name.$${page##*.} || exit 1; done; done

clean: ## remove build/
	rm -rf build
