package soultribetest

var availabilityTests = []conformanceTest{}
