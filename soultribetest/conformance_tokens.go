package soultribetest

var tokenTests = []conformanceTest{}
