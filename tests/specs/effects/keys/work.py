print('OUTPUT: ["python"]')
