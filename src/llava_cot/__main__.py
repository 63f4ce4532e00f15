from llava_cot.cli import main

main()
