# make demo     two S3 buckets, two native B2 buckets, WebDAV and a folder, of local servers: mounted, shown and cleaned up
# make test     everything that CI checks
# make bench    CloudMount, rclone, s3fs and bare requests side by side, by S3 and B2 (QUICK=1: three minutes, rough figures)
# make bench-requests   CPU time of one small request beside a bare libcurl loop
# make soak     the walk of three actors for STEPS steps (a million), from SEED where one is to be repeated
# make hostile each verb of the stores answered by all the nonsense there is; `make test` takes a third of it
# make crash    the daemon killed at POINTS moments (250) on S3 (write: back and through), B2 and a folder, from SEED; `make test` takes six
# make tsan     the fast path from many threads under ThreadSanitizer
# make build    the release binary: .build/release/cloudmount
# make deb      a Debian package of it in .build/packages; make tarball: the same files for any machine, without root
# make install  puts it, stripped, into $(PREFIX)/bin, with a link for mount(8) in $(SBINDIR)

PREFIX ?= /usr/local
# Where mount(8) looks for its helpers.
SBINDIR ?= /usr/sbin
SHELL := /bin/bash
# Names of functions stay in the binary, for perf and gdb: docs/decisions/009.
RELEASE := -c release --static-swift-stdlib -debug-info-format none
# A warning is an error in our own targets.
STRICT := CLOUDMOUNT_STRICT=1
CHECKED := --explicit-target-dependency-import-check error

# These use all of the machine, or start servers and mounts: each in its turn, and not beside tests of waiting times.
LOADED := MountTests|S3ConformanceTests|B2ConformanceTests|WebDAVConformanceTests|B2ServerTests|CloudMountFUSETests|CloudMountHTTPTests|TestServersTests|ConsistencyTests|DamageTests|CloudMountDaemonTests|CloudMountFilesystemTests|CloudMountCacheTests

.PHONY: all deb tarball build test tsan soak hostile crash lint setup setup-build demo bench bench-requests install clean

all: build

# Installs what is missing to build, to test and to show; does nothing when all is there.
setup:
	@Tests/Tools/setup.sh build test

setup-build:
	@Tests/Tools/setup.sh build

build: setup-build
	swift build $(RELEASE) --product cloudmount

lint:
	swift format lint --strict -r -p Sources Plugins Tests Package.swift

test: setup lint
	$(STRICT) swift build --build-tests $(CHECKED)
	$(STRICT) swift test --skip-build --skip '$(LOADED)'
	$(STRICT) swift test --skip-build --filter '^CloudMountFilesystemTests'
	$(STRICT) swift test --skip-build --filter '^CloudMountDaemonTests'
	$(STRICT) swift test --skip-build --filter '^CloudMountCacheTests'
	$(STRICT) swift test --skip-build --filter DamageTests
	$(STRICT) swift test --skip-build --filter CloudMountHTTPTests
	$(STRICT) swift test --skip-build --filter '^TestServersTests'
	$(STRICT) swift test --skip-build --filter '^ConsistencyTests'
	$(STRICT) swift test --skip-build --filter CloudMountFUSETests
	$(STRICT) swift test --skip-build --filter S3ConformanceTests
	$(STRICT) swift test --skip-build --filter 'B2ConformanceTests|B2ServerTests'
	$(STRICT) swift test --skip-build --filter WebDAVConformanceTests
	$(STRICT) swift test --skip-build --filter MountTests
	$(MAKE) tsan

# What runs is the same every time; a report of a race ends it with 66. The first run shows that races are reported at all.
TSAN := .build-tsan/debug/thread-trial
tsan: setup
	$(STRICT) swift build --sanitize=thread --scratch-path .build-tsan --product thread-trial
	TSAN_OPTIONS=log_path=/dev/null $(TSAN) race; test $$? -eq 66
	TSAN_OPTIONS=halt_on_error=1 $(TSAN)

soak: setup
	$(STRICT) swift build --build-tests
	STEPS=$(or $(STEPS),1000000) $(if $(SEED),SEED=$(SEED)) $(STRICT) swift test --skip-build --filter ConsistencyTests.WalkTests

hostile: setup
	$(STRICT) swift build --build-tests
	HOSTILE=1 $(STRICT) swift test --skip-build --filter MountTests.HostileServers

# Half an hour or so for 250.
crash: setup
	$(STRICT) swift build --build-tests
	CLOUDMOUNT_CRASH_POINTS=$(or $(POINTS),250) $(if $(SEED),CLOUDMOUNT_CRASH_SEED=$(SEED)) \
		$(STRICT) swift test --skip-build --filter MountTests.CrashTests

demo: setup build
	@Tests/Tools/demo.sh

# BENCH holds further arguments: `Tests/Bench/bench.py --help`.
bench: build
	@Tests/Tools/setup.sh bench
	@Tests/Bench/bench.py $(if $(QUICK),--quick) $(BENCH)

bench-requests: setup-build
	@Tests/Tools/setup.sh bench
	swift build $(RELEASE) --product request-bench
	@Tests/Bench/requests.py $(BENCH)

PACKAGES := .build/packages
# The same time for the same commit, so that packages can be compared.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)

deb tarball: build
	@Tests/Tools/setup.sh package
	@mkdir -p $(PACKAGES)
	@packaging/$@.sh .build/release/cloudmount $(PACKAGES)

install: build
	install -D -s -m 755 .build/release/cloudmount $(DESTDIR)$(PREFIX)/bin/cloudmount
	install -d $(DESTDIR)$(SBINDIR)
	ln -sfn $(PREFIX)/bin/cloudmount $(DESTDIR)$(SBINDIR)/mount.fuse.cloudmount
	ln -sfn $(PREFIX)/bin/cloudmount $(DESTDIR)$(SBINDIR)/mount.cloudmount

clean:
	rm -rf .build .build-tsan
