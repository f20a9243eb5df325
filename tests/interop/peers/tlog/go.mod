module ichor.test/tlog

go 1.26.6

require golang.org/x/mod v0.40.0
